/* Standard output and error of a command under test, led to files and back. */
#ifndef DSB_TESTS_HELD_STREAMS_H
#define DSB_TESTS_HELD_STREAMS_H

#include <stdio.h>
#include <unistd.h>

typedef struct held_streams {
    int out, err;
} held_streams;

static inline held_streams streams_hold(int out_fd, int err_fd) {
    fflush(stdout);
    fflush(stderr);
    held_streams h = {dup(1), dup(2)};
    dup2(out_fd, 1);
    dup2(err_fd, 2);
    return h;
}

static inline void streams_give_back(held_streams h) {
    fflush(stdout);
    fflush(stderr);
    dup2(h.out, 1);
    dup2(h.err, 2);
    close(h.out);
    close(h.err);
}

#endif
