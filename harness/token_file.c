#include "harness/token_file.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/memory.h"

static dsb_status read_sequence(const char *path, int64_t i, const json_t *v, dsb_sequence *out, dsb_err *err) {
    if (!json_is_array(v) || json_array_size(v) == 0) return dsb_fail(err, DSB_EINPUT, "%s: sequence %lld is no array of token ids", path, (long long)i);
    out->n = (int64_t)json_array_size(v);
    DSB_TRY(DSB_NEW(out->ids, out->n, "tokens", err));
    for (int64_t j = 0; j < out->n; j++) {
        const json_t *id = json_array_get(v, (size_t)j);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return dsb_fail(err, DSB_EINPUT, "%s: sequence %lld: entry %lld is no token id", path, (long long)i, (long long)j);
        out->ids[j] = (int32_t)json_integer_value(id);
    }
    return DSB_OK;
}

dsb_status dsb_token_file_parse(dsb_token_file *out, const char *path, const json_t *doc, dsb_err *err) {
    const json_t *list = json_object_get(doc, "sequences");
    *out = (dsb_token_file){0};
    if (!json_is_array(list) || json_array_size(list) == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"sequences\" must be an array of token arrays", path);
    dsb_status s = DSB_NEW(out->seqs, json_array_size(list), "tokens", err);
    for (size_t i = 0; !s && i < json_array_size(list); i++) {
        dsb_sequence *q = &out->seqs[out->n_seq++];
        s = read_sequence(path, (int64_t)i, json_array_get(list, i), q, err);
        if (q->n > out->longest) out->longest = q->n;
    }
    if (s) dsb_token_file_release(out);
    return s;
}

dsb_status dsb_token_file_load(dsb_token_file *out, const char *path, dsb_err *err) {
    json_t *doc;
    *out = (dsb_token_file){0};
    DSB_TRY(dsb_json_load(&doc, path, err));
    dsb_status s = dsb_token_file_parse(out, path, doc, err);
    json_decref(doc);
    return s;
}

void dsb_token_file_release(dsb_token_file *f) {
    for (int64_t i = 0; i < f->n_seq; i++) free(f->seqs[i].ids);
    free(f->seqs);
    *f = (dsb_token_file){0};
}
