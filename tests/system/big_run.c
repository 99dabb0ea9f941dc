/* big_run DB RUN LAYERS EXPERTS: a made-up run of twelve schemes with every row that a real one stores, to measure how the record, comparisons and
 * reports grow. Nothing in it was measured. */
#include <stdlib.h>

#include "tests/unit/synthetic_run.h"

static int number(const char *text) {
    char *end;
    long v = strtol(text, &end, 10);
    return *text && !*end && v > 0 && v < 10000 ? (int)v : 0;
}

int main(int argc, char **argv) {
    dsb_db *db;
    dsb_err err = { 0 };
    if (argc != 5 || !number(argv[3]) || !number(argv[4])) {
        fprintf(stderr, "usage: big_run DB RUN LAYERS EXPERTS\n");
        return 2;
    }
    dsb_status s = dsb_db_open(&db, argv[1], true, &err);
    if (!s) s = synthetic_write_all(db, argv[2], number(argv[3]), number(argv[4]), &err);
    dsb_db_close(db);
    if (s) fprintf(stderr, "big_run: %s\n", err.text);
    return dsb_exit_code(s);
}
