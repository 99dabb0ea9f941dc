/* Bytes that grow at the end and are used up from the front: text on its way through a tokenizer. Zero it before use. */
#ifndef DSB_DATASETS_BUFFER_H
#define DSB_DATASETS_BUFFER_H

#include <stddef.h>

#include "base/status.h"

typedef struct dsb_buffer {
    char *data; /* owned */
    size_t n, room;
    size_t wait; /* not worth looking at before it holds this many: keeps work linear where little can be used up */
} dsb_buffer;

dsb_status dsb_buffer_put(dsb_buffer *b, const char *p, size_t n, dsb_err *err);
/* Takes the first n bytes off. Call it once a look: it sets `wait`. */
void dsb_buffer_drop(dsb_buffer *b, size_t n);
void dsb_buffer_release(dsb_buffer *b);

#endif
