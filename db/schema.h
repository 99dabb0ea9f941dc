/* The tables and views as SQL, and the version they have. */
#ifndef DSB_DB_SCHEMA_H
#define DSB_DB_SCHEMA_H

#define DSB_DB_VERSION 6
#define DSB_DB_APPLICATION_ID 0x6473626e /* "dsbn": tells our files from other programs' */

/* migration[v] takes a file from user_version v to v+1; it is frozen once released. */
extern const char *const dsb_db_migration[DSB_DB_VERSION];
/* Views that hold no data (db/views.c), run after the migrations. */
extern const char dsb_db_views[];

#endif
