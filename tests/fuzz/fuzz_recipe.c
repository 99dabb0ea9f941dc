/* Recipes: whatever is accepted decides every role's tensors, and is read again from the JSON it stores to the same JSON. */
#include <string.h>

#include "quantizers/recipe.h"
#include "tests/fuzz/fuzz_file.h"

static void try_recipe(const json_t *doc) {
    static const dsb_expert_facts facts = {.is_expert = true, .activity_known = true, .activity_rank = 0.2, .mean_abs_rank = 0.3, .mean_abs = 0.1};
    dsb_arena arena;
    dsb_err err;
    const dsb_recipe *r, *back;
    json_t *again;
    dsb_arena_init(&arena);
    if (!dsb_recipe_parse(&r, &arena, "r.json", doc, &err)) {
        for (int role = 0; role < DSB_ROLE_COUNT; role++) dsb_recipe_match(r, (dsb_role)role, "model.layers.3.mlp.experts.7.down_proj.weight", &facts);
        MUST(dsb_json_parse(&again, "again", r->json, strlen(r->json), &err) == DSB_OK);
        MUST(dsb_recipe_parse(&back, &arena, "again", again, &err) == DSB_OK && strcmp(r->json, back->json) == 0);
        json_decref(again);
    }
    dsb_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) { return fuzz_json(data, n, try_recipe); }
