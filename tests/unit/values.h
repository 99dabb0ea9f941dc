/* Values for tests: the same on every machine. */
#ifndef DSB_TESTS_VALUES_H
#define DSB_TESTS_VALUES_H

#include <math.h>
#include <stdint.h>

/* Of -1 to 1, by its index alone. */
static inline float value(int64_t i) { return (float)((i * 2654435761u >> 7 & 1023) * 0x1p-9 - 1.0); }

/* The next of a sequence that `state` began: the sum of four uniform ones, a bell. */
static inline float bell(uint32_t *state) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += ldexpf((float)((int32_t)(*state >> 8) - (1 << 23)), -25);
    }
    return sum;
}

#endif
