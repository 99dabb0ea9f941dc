#include "metrics/llama_write.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "metrics/llama_logits.h"

static void store_u16(uint8_t *p, uint16_t x) {
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}
static void store_u32(uint8_t *p, uint32_t x) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x >> 8 * i);
}
static void store_f32(uint8_t *p, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    store_u32(p, bits);
}

static size_t row_bytes(const dsb_llama_writer *w) { return 8 + 2 * (size_t)((w->n_vocab + 1) / 2 * 2); }

static dsb_status put(dsb_llama_writer *w, const void *data, size_t n, dsb_err *err) {
    return fwrite(data, 1, n, w->file) == n ? DSB_OK : dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", w->path, strerror(errno));
}

static dsb_status open_file(dsb_llama_writer *w, dsb_err *err) {
    int fd = mkstemp(w->temp);
    if (fd >= 0) w->file = fdopen(fd, "wb");
    if (w->file) return DSB_OK;
    dsb_status s = dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", w->path, strerror(errno));
    if (fd >= 0) close(fd);
    return s;
}

static dsb_status put_head(dsb_llama_writer *w, int64_t n_ctx, int64_t n_chunk, const int32_t *tokens, dsb_err *err) {
    uint8_t head[20] = "_logits_", token[4];
    store_u32(head + 8, (uint32_t)n_ctx);
    store_u32(head + 12, (uint32_t)w->n_vocab);
    store_u32(head + 16, (uint32_t)n_chunk);
    DSB_TRY(put(w, head, sizeof head, err));
    for (int64_t i = 0; i < n_chunk * n_ctx; i++) {
        store_u32(token, (uint32_t)tokens[i]);
        DSB_TRY(put(w, token, sizeof token, err));
    }
    return DSB_OK;
}

dsb_status dsb_llama_writer_open(dsb_llama_writer *w, const char *path, int64_t n_ctx, int64_t n_vocab, int64_t n_chunk, const int32_t *tokens, dsb_err *err) {
    *w = (dsb_llama_writer){.n_vocab = n_vocab, .left = n_chunk * (n_ctx - 1 - n_ctx / 2)};
    w->path = strdup(path);
    if (!w->path || asprintf(&w->temp, "%s.XXXXXX", path) < 0) {
        w->temp = NULL;
        dsb_llama_writer_close(w);
        return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
    }
    dsb_status s = DSB_NEW(w->row, row_bytes(w), "a row of logits", err);
    if (!s) s = DSB_NEW(w->codes, n_vocab, "a row of logits", err);
    if (!s) s = open_file(w, err);
    if (!s) s = put_head(w, n_ctx, n_chunk, tokens, err);
    if (s) dsb_llama_writer_close(w);
    return s;
}

dsb_status dsb_llama_writer_row(dsb_llama_writer *w, const float *logits, dsb_err *err) {
    float scale, lp_min;
    if (w->left == 0) return dsb_fail(err, DSB_EINTERNAL, "%s: more rows than its header says", w->path);
    for (int64_t i = 0; i < w->n_vocab; i++)
        if (!isfinite(logits[i])) return dsb_fail(err, DSB_ENONFINITE, "%s: the logit of token %lld is NaN or infinite, %lld rows before the end; the format has no room for it", w->path, (long long)i, (long long)w->left);
    dsb_llama_encode(logits, w->n_vocab, &scale, &lp_min, w->codes);
    store_f32(w->row, scale);
    store_f32(w->row + 4, lp_min);
    for (int64_t i = 0; i < w->n_vocab; i++) store_u16(w->row + 8 + 2 * i, w->codes[i]);
    w->left--;
    return put(w, w->row, row_bytes(w), err);
}

dsb_status dsb_llama_writer_finish(dsb_llama_writer *w, dsb_err *err) {
    if (w->left) return dsb_fail(err, DSB_EINTERNAL, "%s: %lld rows are missing", w->path, (long long)w->left);
    mode_t mask = umask(0);
    umask(mask);
    int bad = fflush(w->file) != 0 || fchmod(fileno(w->file), 0666 & ~mask) != 0, e = errno;
    if (fclose(w->file) != 0 && !bad) bad = 1, e = errno;
    w->file = NULL;
    if (!bad && rename(w->temp, w->path) != 0) bad = 1, e = errno;
    if (bad) return dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", w->path, strerror(e));
    free(w->temp);
    w->temp = NULL;
    return DSB_OK;
}

void dsb_llama_writer_close(dsb_llama_writer *w) {
    if (w->file) fclose(w->file);
    if (w->temp) unlink(w->temp);
    free(w->temp);
    free(w->path);
    free(w->row);
    free(w->codes);
    *w = (dsb_llama_writer){0};
}
