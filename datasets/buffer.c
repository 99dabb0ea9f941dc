#include "datasets/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

dsb_status dsb_buffer_put(dsb_buffer *b, const char *p, size_t n, dsb_err *err) {
    size_t want;
    if (!dsb_add(b->n, n, &want)) return dsb_fail(err, DSB_ENOMEM, "tokenizer: a text of more than %zu bytes", b->n);
    if (want > b->room) {
        size_t room = b->room ? b->room : 256;
        while (room < want) room = room > want / 2 ? want : 2 * room;
        char *grown = realloc(b->data, room);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu bytes of text", room);
        b->data = grown;
        b->room = room;
    }
    if (n) memcpy(b->data + b->n, p, n);
    b->n = want;
    return DSB_OK;
}

void dsb_buffer_drop(dsb_buffer *b, size_t n) {
    b->n -= n;
    if (n && b->n) memmove(b->data, b->data + n, b->n);
    b->wait = 2 * b->n;
}

void dsb_buffer_release(dsb_buffer *b) {
    free(b->data);
    *b = (dsb_buffer){ 0 };
}
