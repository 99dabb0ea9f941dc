/* Columns joined to struct fields: one generic put and get serves every table. To add a column: the struct's field
 * (rows.h), a line here (tables.c), the SQL of a new migration (schema.c). */
#ifndef DSB_DB_TABLES_H
#define DSB_DB_TABLES_H

#include <stddef.h>

/* INT is stored as it is (key columns); COUNT stores a negative as NULL and reads NULL as -1. */
typedef enum dsb_column_type { DSB_COL_TEXT, DSB_COL_INT, DSB_COL_COUNT, DSB_COL_REAL } dsb_column_type;

typedef struct dsb_column {
    const char *name;
    dsb_column_type type;
    size_t offset; /* of the field: const char *, int64_t, int64_t, double */
} dsb_column;

typedef struct dsb_table {
    const char *name;
    const dsb_column *columns; /* without run_id */
    int n_column;
    size_t row_size;
    const char *scheme; /* the column that names the scheme */
    const char *order;
    const char *const *put; /* (n_put) statements that store a row, each with the run as ?1 and the columns from ?2 on; NULL: a plain insert */
    int n_put;
} dsb_table;
enum { DSB_PUT_MOST = 3 };

typedef enum dsb_table_id {
    DSB_TABLE_SCHEME, DSB_TABLE_RECIPE_RULE, DSB_TABLE_TENSOR_ERROR, DSB_TABLE_LAYER_ERROR, DSB_TABLE_ROUTING_LAYER,
    DSB_TABLE_ROUTING_EXPERT, DSB_TABLE_CHUNK_QUALITY, DSB_TABLE_QUALITY, DSB_TABLE_QUALITY_DETAIL, DSB_TABLE_TASK_ITEM, DSB_TABLE_THROUGHPUT,
    DSB_TABLE_CALIBRATION_COVERAGE, DSB_TABLE_EVENT, DSB_TABLE_COUNT
} dsb_table_id;
extern const dsb_table dsb_tables[DSB_TABLE_COUNT];

/* The facts a run points at; offsets are those of the facts' own structs, dsb_table_run's those of dsb_run_record. */
extern const dsb_table dsb_table_run, dsb_table_host, dsb_table_model, dsb_table_dataset, dsb_table_bench;

#endif
