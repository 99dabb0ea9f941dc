#include "harness/suite.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

static const char k_demo_schemes[] = "bf16,dynamic-int8,static-int8,mixed-fp16-int8,sparse-expert,qat-int8,qat-int4,int4-rtn,int3-rtn";
static const char k_quick_schemes[] = "bf16,dynamic-int8,static-int8,mixed-fp16-int8,sparse-expert,int4-rtn,int3-rtn";

static dsb_status keep(dsb_arena *arena, const char *text, const char **out, dsb_err *err) {
    *out = dsb_arena_strdup(arena, text);
    return *out ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "no memory for the suite");
}

dsb_status dsb_builtin_model(dsb_arena *arena, const char **out, dsb_err *err) {
    char exe[PATH_MAX], path[PATH_MAX + 64];
    struct stat st;
    const char *dir = getenv("DSBENCH_MODELS");
    if (dir && *dir) {
        snprintf(path, sizeof path, "%s/dsmoe-tiny", dir);
        return keep(arena, path, out, err);
    }
    if (!dsb_program_dir(exe)) exe[0] = 0;
    static const char *const k_place[] = {"/models", "/../models", "/../../models", "/../share/dsbench/models"};
    for (size_t i = 0; i < sizeof k_place / sizeof *k_place; i++) {
        snprintf(path, sizeof path, "%s%s/dsmoe-tiny", exe, k_place[i]);
        if (stat(path, &st) != 0) continue;
        char real[PATH_MAX];
        return keep(arena, realpath(path, real) ? real : path, out, err);
    }
    return dsb_fail(err, DSB_EINPUT, "models/dsmoe-tiny: the built-in model is not beside the program; set DSBENCH_MODELS or give --model DIR");
}

dsb_status dsb_suite_find(dsb_arena *arena, const char *name, const char **out, dsb_err *err) {
    static const char *const k_place[] = {"/../harness/suites", "/../../harness/suites", "/../share/dsbench/suites"};
    char exe[PATH_MAX], path[PATH_MAX + 300];
    struct stat st;
    if (stat(name, &st) == 0 && !S_ISDIR(st.st_mode)) return keep(arena, name, out, err);
    if (strpbrk(name, "/.") || strlen(name) > 64 || !dsb_program_dir(exe)) return keep(arena, name, out, err);
    for (size_t i = 0; i < sizeof k_place / sizeof *k_place; i++) {
        snprintf(path, sizeof path, "%s%s/%s.json", exe, k_place[i], name);
        if (stat(path, &st) == 0) return keep(arena, path, out, err);
    }
    return dsb_fail(err, DSB_EINPUT, "%s: neither a file nor a suite; a path, or one of quick, classic, formats, algorithms, moe, everything is wanted", name);
}

dsb_status dsb_suite_default(dsb_suite *s, dsb_arena *arena, const char *model, dsb_err *err) {
    *s = (dsb_suite){.name = model ? "quick" : "demo", .convention = "llama", .n_ctx = 512, .n_chunk = model ? 16 : 32, .n_cal_chunk = 16, .isolated_every = 4, .prefill = 512, .decode = 32, .repeats = 3};
    if (model) {
        DSB_TRY(keep(arena, model, &s->model, err));
    } else {
        DSB_TRY(dsb_builtin_model(arena, &s->model, err));
    }
    return dsb_suite_schemes(s, arena, model ? k_quick_schemes : k_demo_schemes, err);
}

dsb_status dsb_suite_add(dsb_suite *s, const dsb_recipe *recipe, const char *source, dsb_err *err) {
    if (strcmp(recipe->name, "reference") == 0) return dsb_fail(err, DSB_EUSAGE, "scheme name \"reference\" is the reference's own; another name is wanted");
    for (int i = 0; i < s->n_scheme; i++)
        if (strcmp(s->recipes[i]->name, recipe->name) == 0) return dsb_fail(err, DSB_EUSAGE, "scheme %s is named twice", recipe->name);
    if (s->n_scheme == DSB_SUITE_MAX_SCHEMES) return dsb_fail(err, DSB_EUSAGE, "more than %d schemes in one run", DSB_SUITE_MAX_SCHEMES);
    s->recipes[s->n_scheme] = recipe;
    s->sources[s->n_scheme++] = source;
    return DSB_OK;
}

dsb_status dsb_suite_schemes(dsb_suite *s, dsb_arena *arena, const char *names, dsb_err *err) {
    const char *copy;
    char *rest, *name;
    DSB_TRY(keep(arena, names, &copy, err));
    bool named = false;
    s->n_scheme = 0;
    for (name = strtok_r((char *)copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        const dsb_recipe *recipe;
        while (*name == ' ') name++;
        named = true;
        if (strcmp(name, "reference") == 0) continue; /* it always runs */
        DSB_TRY(dsb_recipe_preset(&recipe, arena, name, err));
        DSB_TRY(dsb_suite_add(s, recipe, NULL, err));
    }
    return named ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "--schemes '%s' names no scheme; names of `dsbench list schemes`, separated by commas, are wanted", names);
}

dsb_status dsb_suite_source(dsb_suite *s, dsb_arena *arena, const char *name_dir, dsb_err *err) {
    const char *eq = strchr(name_dir, '='), *name, *dir;
    if (!eq || eq == name_dir || !eq[1]) return dsb_fail(err, DSB_EUSAGE, "--scheme %s: NAME=DIR is wanted", name_dir);
    DSB_TRY(keep(arena, name_dir, &name, err));
    DSB_TRY(keep(arena, eq + 1, &dir, err));
    ((char *)name)[eq - name_dir] = 0;
    for (int i = 0; i < s->n_scheme; i++)
        if (strcmp(s->recipes[i]->name, name) == 0) {
            s->sources[i] = dir;
            return DSB_OK;
        }
    const dsb_recipe *recipe;
    DSB_TRY(dsb_recipe_preset(&recipe, arena, name, err));
    return dsb_suite_add(s, recipe, dir, err);
}

dsb_status dsb_suite_as_stored(dsb_suite *s, dsb_arena *arena, const char *dir, dsb_err *err) {
    const dsb_recipe *recipe;
    const char *source = NULL;
    int at = 0;
    if (dir) DSB_TRY(keep(arena, dir, &source, err));
    while (at < s->n_scheme && strcmp(s->recipes[at]->name, "as-stored") != 0) at++;
    if (at == s->n_scheme) {
        DSB_TRY(dsb_recipe_preset(&recipe, arena, "as-stored", err));
        DSB_TRY(dsb_suite_add(s, recipe, source, err));
        for (; at > 0; at--) {
            s->recipes[at] = s->recipes[at - 1];
            s->sources[at] = s->sources[at - 1];
        }
        s->recipes[0] = recipe;
    }
    s->sources[at] = source;
    return DSB_OK;
}

/* "*": every preset, in the order of the list, but that of checkpoints that are quantized already. */
static dsb_status add_presets(dsb_suite *s, dsb_arena *arena, dsb_err *err) {
    const dsb_preset_row *rows;
    for (int i = 0, n = dsb_preset_list(&rows); i < n; i++) {
        const dsb_recipe *recipe;
        if (strcmp(rows[i].name, "as-stored") == 0) continue;
        DSB_TRY(dsb_recipe_preset(&recipe, arena, rows[i].name, err));
        DSB_TRY(dsb_suite_add(s, recipe, NULL, err));
    }
    return DSB_OK;
}

static dsb_status apply_schemes(dsb_suite *s, dsb_arena *arena, const char *name, const json_t *list, dsb_err *err) {
    if (!json_is_array(list)) return dsb_fail(err, DSB_EINPUT, "%s: \"schemes\" must be an array of preset names and recipes", name);
    s->n_scheme = 0;
    size_t i;
    const json_t *v;
    json_array_foreach((json_t *)list, i, v) {
        const dsb_recipe *recipe;
        if (json_is_string(v) && strcmp(json_string_value(v), "reference") == 0) continue;
        if (json_is_string(v) && strcmp(json_string_value(v), "*") == 0) {
            DSB_TRY(add_presets(s, arena, err));
            continue;
        }
        if (json_is_string(v)) {
            DSB_TRY(dsb_recipe_preset(&recipe, arena, json_string_value(v), err));
        } else {
            DSB_TRY(dsb_recipe_parse(&recipe, arena, name, v, err));
        }
        DSB_TRY(dsb_suite_add(s, recipe, NULL, err));
    }
    return DSB_OK;
}

static dsb_status apply_text(dsb_arena *arena, const json_t *doc, const char *name, const char *key, const char **out, dsb_err *err) {
    const char *v = NULL;
    DSB_TRY(dsb_json_string(doc, name, key, false, &v, err));
    return v ? keep(arena, v, out, err) : DSB_OK;
}

static const char *const k_starved[] = {"rtn", "all-tokens", "error"};

static dsb_status apply_cover(dsb_cover_policy *p, const json_t *doc, const char *name, dsb_err *err) {
    const char *experts = NULL, *starved = NULL;
    DSB_TRY(dsb_json_int(doc, name, "calibration_min_tokens", false, 0, INT32_MAX, &p->min_tokens, err));
    DSB_TRY(dsb_json_bool(doc, name, "calibration_balance", false, &p->balance, err));
    DSB_TRY(dsb_json_string(doc, name, "calibration_experts", false, &experts, err));
    DSB_TRY(dsb_json_string(doc, name, "calibration_starved", false, &starved, err));
    if (experts && strcmp(experts, "routed") != 0 && strcmp(experts, "all") != 0) return dsb_fail(err, DSB_EINPUT, "%s: \"calibration_experts\" is %s; routed or all is wanted", name, experts);
    if (experts) p->all = strcmp(experts, "all") == 0;
    for (int i = 0; starved && i <= DSB_STARVED_ERROR; i++) {
        p->starved = (dsb_starved)i;
        if (strcmp(starved, k_starved[i]) == 0) break;
        if (i == DSB_STARVED_ERROR) return dsb_fail(err, DSB_EINPUT, "%s: \"calibration_starved\" is %s; rtn, all-tokens or error is wanted", name, starved);
    }
    if ((p->balance || starved) && p->min_tokens == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is given without calibration_min_tokens; the tokens that an expert should see are wanted", name, p->balance ? "calibration_balance" : "calibration_starved");
    return DSB_OK;
}

static dsb_status apply_throughput(dsb_suite *s, const char *name, const json_t *t, dsb_err *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(t)) return dsb_fail(err, DSB_EINPUT, "%s: \"throughput\" must be an object of prefill, decode and repeats", name);
    json_object_foreach((json_t *)t, key, v) {
        if (strcmp(key, "prefill") != 0 && strcmp(key, "decode") != 0 && strcmp(key, "repeats") != 0)
            return dsb_fail(err, DSB_EINPUT, "%s: key \"%s\" of \"throughput\" is unknown; prefill, decode and repeats are known", name, key);
    }
    DSB_TRY(dsb_json_int(t, name, "prefill", false, 1, 1 << 20, &s->prefill, err));
    DSB_TRY(dsb_json_int(t, name, "decode", false, 1, 1 << 20, &s->decode, err));
    return dsb_json_int(t, name, "repeats", false, 0, 32, &s->repeats, err);
}

static dsb_status apply_reference(dsb_suite *s, const json_t *doc, const char *name, dsb_err *err) {
    const char *v = NULL;
    DSB_TRY(dsb_json_string(doc, name, "reference", false, &v, err));
    if (v && strcmp(v, "f32") != 0 && strcmp(v, "bf16") != 0) return dsb_fail(err, DSB_EINPUT, "%s: \"reference\" is %.60s; f32 or bf16 is wanted", name, v);
    if (v) s->bf16_reference = strcmp(v, "bf16") == 0;
    return DSB_OK;
}

static dsb_status apply_sources(dsb_suite *s, dsb_arena *arena, const char *name, const json_t *map, dsb_err *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(map)) return dsb_fail(err, DSB_EINPUT, "%s: \"sources\" must be an object of scheme names and directories", name);
    json_object_foreach((json_t *)map, key, v) {
        char pair[PATH_MAX + 256];
        if (!json_is_string(v)) return dsb_fail(err, DSB_EINPUT, "%s: \"sources\": %s must be a directory's name", name, key);
        snprintf(pair, sizeof pair, "%s=%s", key, json_string_value(v));
        DSB_TRY(dsb_suite_source(s, arena, pair, err));
    }
    return DSB_OK;
}

void dsb_suite_convention(dsb_suite *s, const char *convention) {
    int i = dsb_convention_find(convention);
    s->convention = convention;
    if (i >= 0) s->n_ctx = dsb_convention_table[i].n_ctx;
}

dsb_status dsb_suite_apply(dsb_suite *s, dsb_arena *arena, const char *name, const json_t *doc, dsb_err *err) {
    static const char *const k_keys[] = {"name", "model", "reference", "text", "field", "task", "reflow", "calibration", "schemes", "sources", "context", "chunks", "calibration_chunks", "calibration_min_tokens", "calibration_balance", "calibration_experts", "calibration_starved", "convention", "isolated_every", "throughput"};
    const char *key;
    json_t *v;
    if (!json_is_object(doc)) return dsb_fail(err, DSB_EINPUT, "%s: a suite must be a JSON object", name);
    json_object_foreach((json_t *)doc, key, v) {
        bool known = false;
        for (size_t i = 0; i < sizeof k_keys / sizeof *k_keys; i++) known |= strcmp(k_keys[i], key) == 0;
        if (!known) return dsb_fail(err, DSB_EINPUT, "%s: key \"%s\" is unknown; name model reference text field task reflow calibration schemes sources context chunks calibration_chunks calibration_min_tokens calibration_balance calibration_experts calibration_starved convention isolated_every throughput are known", name, key);
    }
    DSB_TRY(apply_text(arena, doc, name, "name", &s->name, err));
    DSB_TRY(apply_text(arena, doc, name, "model", &s->model, err));
    DSB_TRY(apply_reference(s, doc, name, err));
    DSB_TRY(apply_text(arena, doc, name, "text", &s->text, err));
    DSB_TRY(apply_text(arena, doc, name, "field", &s->field, err));
    DSB_TRY(apply_text(arena, doc, name, "task", &s->task, err));
    DSB_TRY(apply_text(arena, doc, name, "calibration", &s->calibration, err));
    DSB_TRY(apply_text(arena, doc, name, "convention", &s->convention, err));
    DSB_TRY(dsb_json_bool(doc, name, "reflow", false, &s->reflow, err));
    if (json_object_get(doc, "convention")) dsb_suite_convention(s, s->convention);
    DSB_TRY(dsb_json_int(doc, name, "context", false, 2, 1 << 20, &s->n_ctx, err));
    DSB_TRY(dsb_json_int(doc, name, "chunks", false, 0, INT32_MAX, &s->n_chunk, err));
    DSB_TRY(dsb_json_int(doc, name, "calibration_chunks", false, 0, INT32_MAX, &s->n_cal_chunk, err));
    s->cal_chunk_asked |= json_object_get(doc, "calibration_chunks") != NULL;
    DSB_TRY(apply_cover(&s->cover, doc, name, err));
    DSB_TRY(dsb_json_int(doc, name, "isolated_every", false, 1, INT32_MAX, &s->isolated_every, err));
    if (json_object_get(doc, "schemes")) DSB_TRY(apply_schemes(s, arena, name, json_object_get(doc, "schemes"), err));
    if (json_object_get(doc, "sources")) DSB_TRY(apply_sources(s, arena, name, json_object_get(doc, "sources"), err));
    if (json_object_get(doc, "throughput")) DSB_TRY(apply_throughput(s, name, json_object_get(doc, "throughput"), err));
    return DSB_OK;
}

dsb_status dsb_suite_json(const dsb_suite *s, dsb_arena *arena, const char **out, dsb_err *err) {
    json_t *doc = json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}}", "name", s->name, "model", s->model, "convention", s->convention, "reflow", s->reflow, "context",
                            (json_int_t)s->n_ctx, "chunks", (json_int_t)s->n_chunk, "calibration_chunks", (json_int_t)s->n_cal_chunk, "isolated_every", (json_int_t)s->isolated_every, "throughput",
                            "prefill", (json_int_t)s->prefill, "decode", (json_int_t)s->decode, "repeats", (json_int_t)s->repeats);
    json_t *schemes = json_array(), *sources = json_object();
    dsb_status st = doc && schemes && sources ? DSB_OK : dsb_fail(err, DSB_EINPUT, "the suite can't be written as JSON: a name in it is not UTF-8");
    if (!st && s->bf16_reference) json_object_set_new(doc, "reference", json_string("bf16"));
    if (!st && s->text) json_object_set_new(doc, "text", json_string(s->text));
    if (!st && s->field) json_object_set_new(doc, "field", json_string(s->field));
    if (!st && s->task) json_object_set_new(doc, "task", json_string(s->task));
    if (!st && s->cover.min_tokens) {
        json_object_set_new(doc, "calibration_min_tokens", json_integer(s->cover.min_tokens));
        json_object_set_new(doc, "calibration_balance", json_boolean(s->cover.balance));
        json_object_set_new(doc, "calibration_starved", json_string(k_starved[s->cover.starved]));
    }
    if (!st && s->cover.all) json_object_set_new(doc, "calibration_experts", json_string("all"));
    if (!st && s->calibration) json_object_set_new(doc, "calibration", json_string(s->calibration));
    for (int i = 0; i < s->n_scheme && !st; i++) {
        json_t *recipe;
        st = dsb_json_parse(&recipe, s->recipes[i]->name, s->recipes[i]->json, strlen(s->recipes[i]->json), err);
        if (st) break;
        json_array_append_new(schemes, recipe);
        if (s->sources[i]) json_object_set_new(sources, s->recipes[i]->name, json_string(s->sources[i]));
    }
    if (!st) {
        json_object_set(doc, "schemes", schemes);
        json_object_set(doc, "sources", sources);
        char *text = json_dumps(doc, JSON_COMPACT);
        st = text ? keep(arena, text, out, err) : dsb_fail(err, DSB_ENOMEM, "no memory for the suite");
        free(text);
    }
    json_decref(schemes);
    json_decref(sources);
    json_decref(doc);
    return st;
}

dsb_status dsb_suite_check(const dsb_suite *s, dsb_err *err) {
    if (s->n_ctx < 2 || s->n_ctx > 1 << 20) return dsb_fail(err, DSB_EUSAGE, "context is %lld tokens; 2 to 1048576 is wanted", (long long)s->n_ctx);
    if (s->n_chunk < 0 || s->n_cal_chunk < 0) return dsb_fail(err, DSB_EUSAGE, "chunks is negative; 0 (all) or more is wanted");
    if (s->isolated_every < 1) return dsb_fail(err, DSB_EUSAGE, "isolated_every is %lld; 1 or more is wanted", (long long)s->isolated_every);
    return DSB_OK;
}

dsb_status dsb_suite_load(dsb_suite *s, dsb_arena *arena, const char *path, const char *model, dsb_err *err) {
    json_t *doc;
    const char *named = model;
    DSB_TRY(dsb_suite_find(arena, path, &path, err));
    DSB_TRY(dsb_json_load_own(&doc, path, err));
    dsb_status st = model ? DSB_OK : dsb_json_string(doc, path, "model", false, &named, err);
    if (!st) st = dsb_suite_default(s, arena, named, err);
    if (!st) st = dsb_suite_apply(s, arena, path, doc, err);
    json_decref(doc);
    if (!st && model) s->model = model;
    return st;
}

/* DIR, bf16 or bf16:DIR. A pre-quantized checkpoint is a scheme of its own, beside the reference given, else beside its decoded form. */
dsb_status dsb_suite_reference(dsb_suite *s, dsb_arena *arena, const char *reference, dsb_err *err) {
    dsb_checkpoint cp;
    const char *dir = reference && strncmp(reference, "bf16", 4) == 0 ? (reference[4] == ':' ? reference + 5 : reference[4] ? reference : NULL) : reference;
    s->bf16_reference |= reference && dir != reference;
    if (dir) {
        DSB_TRY(dsb_suite_as_stored(s, arena, s->model, err));
        s->model = dir;
        return DSB_OK;
    }
    if (dsb_checkpoint_open(&cp, s->model, NULL)) return DSB_OK; /* the run says what is wrong with it */
    bool quantized = dsb_checkpoint_is_quantized(&cp);
    dsb_checkpoint_close(&cp);
    for (int i = 0; i < s->n_scheme; i++)
        if (strcmp(s->recipes[i]->name, "as-stored") == 0) return DSB_OK;
    return quantized ? dsb_suite_as_stored(s, arena, NULL, err) : DSB_OK;
}
