#include "datasets/gguf_vocab.h"

#include <string.h>

#include "base/memory.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64, N_TYPE };
static const uint8_t k_bytes[N_TYPE] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

typedef struct reader {
    const char *name;
    const uint8_t *begin, *p, *end;
    dsb_err *err;
} reader;

typedef struct value {
    uint32_t type, item; /* item: of a LIST */
    const uint8_t *p;    /* its first byte, or a list's first element */
    uint64_t n;          /* bytes of a TEXT, elements of a LIST */
} value;

static dsb_status cut_off(const reader *r, const char *what) { return dsb_fail(r->err, DSB_EINPUT, "%s: %s at byte %zu goes past the file's end (%zu bytes): it is truncated or damaged", r->name, what, (size_t)(r->p - r->begin), (size_t)(r->end - r->begin)); }

static dsb_status skip(reader *r, uint64_t n, const char *what) {
    if (n > (uint64_t)(r->end - r->p)) return cut_off(r, what);
    r->p += n;
    return DSB_OK;
}

static dsb_status read_u32(reader *r, uint32_t *out, const char *what) {
    const uint8_t *p = r->p;
    DSB_TRY(skip(r, 4, what));
    memcpy(out, p, 4);
    return DSB_OK;
}

static dsb_status read_u64(reader *r, uint64_t *out, const char *what) {
    const uint8_t *p = r->p;
    DSB_TRY(skip(r, 8, what));
    memcpy(out, p, 8);
    return DSB_OK;
}

static dsb_status read_text(reader *r, const uint8_t **p, uint64_t *n) {
    DSB_TRY(read_u64(r, n, "a string's length"));
    *p = r->p;
    return skip(r, *n, "a string");
}

/* A list's elements: scalars or texts; no tokenizer has lists of lists. */
static dsb_status read_list(reader *r, value *v) {
    const uint8_t *p;
    uint64_t n;
    DSB_TRY(read_u32(r, &v->item, "an array's type"));
    DSB_TRY(read_u64(r, &v->n, "an array's length"));
    v->p = r->p;
    if (v->item >= N_TYPE || v->item == LIST) return dsb_fail(r->err, DSB_EINPUT, "%s: an array at byte %zu has elements of type %u; scalars or strings are wanted", r->name, (size_t)(v->p - r->begin), v->item);
    if (v->item != TEXT) return v->n > (uint64_t)(r->end - r->p) / k_bytes[v->item] ? cut_off(r, "an array") : skip(r, v->n * k_bytes[v->item], "an array");
    for (uint64_t i = 0; i < v->n; i++) DSB_TRY(read_text(r, &p, &n));
    return DSB_OK;
}

static dsb_status read_value(reader *r, value *v) {
    DSB_TRY(read_u32(r, &v->type, "a value's type"));
    v->p = r->p;
    if (v->type == TEXT) return read_text(r, &v->p, &v->n);
    if (v->type == LIST) return read_list(r, v);
    if (v->type >= N_TYPE) return dsb_fail(r->err, DSB_EINPUT, "%s: a value at byte %zu has type %u; 0 to %d are known", r->name, (size_t)(v->p - r->begin), v->type, N_TYPE - 1);
    return skip(r, k_bytes[v->type], "a value");
}

/* Keys */

typedef enum want { WANT_TEXT, WANT_TEXTS, WANT_F32S, WANT_I32S, WANT_ID, WANT_BOOL } want;

static const struct {
    const char *key;
    want want;
    size_t at; /* in dsb_gguf_vocab */
} k_keys[] = {
    { "model", WANT_TEXT, offsetof(dsb_gguf_vocab, model) },
    { "pre", WANT_TEXT, offsetof(dsb_gguf_vocab, pre) },
    { "tokens", WANT_TEXTS, offsetof(dsb_gguf_vocab, tokens) },
    { "merges", WANT_TEXTS, offsetof(dsb_gguf_vocab, merges) },
    { "scores", WANT_F32S, offsetof(dsb_gguf_vocab, scores) },
    { "token_type", WANT_I32S, offsetof(dsb_gguf_vocab, types) },
    { "bos_token_id", WANT_ID, offsetof(dsb_gguf_vocab, bos_id) },
    { "add_bos_token", WANT_BOOL, offsetof(dsb_gguf_vocab, add_bos) },
    { "add_space_prefix", WANT_BOOL, offsetof(dsb_gguf_vocab, add_space_prefix) },
};

static bool fits(const value *v, want w) {
    switch (w) {
    case WANT_TEXT: return v->type == TEXT;
    case WANT_TEXTS: return v->type == LIST && v->item == TEXT;
    case WANT_F32S: return v->type == LIST && v->item == F32;
    case WANT_I32S: return v->type == LIST && (v->item == I32 || v->item == U32);
    case WANT_ID: return v->type == U32 || v->type == I32;
    default: return v->type == BOOL;
    }
}

static dsb_status store(const reader *r, dsb_gguf_vocab *out, size_t row, const value *v) {
    void *to = (char *)out + k_keys[row].at;
    int32_t id;
    if (!fits(v, k_keys[row].want)) return dsb_fail(r->err, DSB_EINPUT, "%s: tokenizer.ggml.%s has another type than a tokenizer's (%u of %u)", r->name, k_keys[row].key, v->type, v->type == LIST ? v->item : v->type);
    switch (k_keys[row].want) {
    case WANT_TEXT: *(dsb_gguf_text *)to = (dsb_gguf_text){ (const char *)v->p, (size_t)v->n }; break;
    case WANT_ID:
        memcpy(&id, v->p, sizeof id);
        *(int64_t *)to = id;
        break;
    case WANT_BOOL: *(int *)to = *v->p != 0; break;
    default: *(dsb_gguf_list *)to = (dsb_gguf_list){ v->p, (size_t)v->n };
    }
    return DSB_OK;
}

static dsb_status read_pair(reader *r, dsb_gguf_vocab *out) {
    static const char prefix[] = "tokenizer.ggml.";
    const uint8_t *key;
    uint64_t n;
    value v = { 0 };
    DSB_TRY(read_text(r, &key, &n));
    DSB_TRY(read_value(r, &v));
    if (n < sizeof prefix - 1 || memcmp(key, prefix, sizeof prefix - 1) != 0) return DSB_OK;
    key += sizeof prefix - 1;
    n -= sizeof prefix - 1;
    for (size_t i = 0; i < sizeof k_keys / sizeof *k_keys; i++)
        if (n == strlen(k_keys[i].key) && memcmp(key, k_keys[i].key, n) == 0) return store(r, out, i, &v);
    return DSB_OK;
}

dsb_status dsb_gguf_vocab_find(dsb_gguf_vocab *out, const char *name, const uint8_t *data, size_t n, dsb_err *err) {
    reader r = { name, data, data, data + n, err };
    uint32_t version;
    uint64_t n_tensor, n_pair;
    *out = (dsb_gguf_vocab){ .bos_id = -1, .add_bos = -1, .add_space_prefix = -1 };
    if (n < 4 || memcmp(data, "GGUF", 4) != 0) return dsb_fail(err, DSB_EINPUT, "%s: no GGUF file", name);
    r.p += 4;
    DSB_TRY(read_u32(&r, &version, "the version"));
    if (version != 2 && version != 3) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: GGUF version %u (0x%08x); 2 and 3, little-endian, are read", name, version, version);
    DSB_TRY(read_u64(&r, &n_tensor, "the number of tensors"));
    DSB_TRY(read_u64(&r, &n_pair, "the number of keys"));
    for (uint64_t i = 0; i < n_pair; i++) DSB_TRY(read_pair(&r, out));
    return DSB_OK;
}

dsb_gguf_text dsb_gguf_next_text(const uint8_t **p) {
    uint64_t n;
    memcpy(&n, *p, 8);
    dsb_gguf_text t = { (const char *)*p + 8, (size_t)n };
    *p += 8 + n;
    return t;
}
