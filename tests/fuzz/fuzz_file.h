/* Bytes of a fuzzer as a file: readers take paths. The file lies in memory, the same one for every input. */
#ifndef DSB_TESTS_FUZZ_FILE_H
#define DSB_TESTS_FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/json.h"

/* What must hold whatever the input: a failure is a finding. */
#define MUST(x) ((x) ? (void)0 : (fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x), abort()))

static inline const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) fd = memfd_create("input", 0);
    MUST(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

/* Calls it with the input where that is JSON. */
static inline int fuzz_json(const uint8_t *data, size_t n, void (*with)(const json_t *doc)) {
    dsb_err err;
    json_t *doc;
    if (dsb_json_parse(&doc, "input", (const char *)data, n, &err)) return 0;
    with(doc);
    json_decref(doc);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
