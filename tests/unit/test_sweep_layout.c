/* Several sequences in one chunk: each is computed as if it stood alone, to the bit. */
#include "sweep_run.h"

#include "engine/model_check.h"

enum { A = 10, B = SR_CTX - A };

static void run_plan(sr_run *r, int n_chunk, const int32_t *tokens, const int32_t *positions, int n_isolated) {
    dsb_err err = {0};
    int32_t targets[2 * SR_CTX];
    dsb_observer obs = {.ctx = r, .tensor = sr_on_tensor, .layer = sr_on_layer, .expert = sr_on_expert, .routing = sr_on_routing, .logits = sr_on_logits, .clip = sr_on_clip, .block_done = sr_on_block};
    for (int i = 0; i < n_chunk * SR_CTX; i++) targets[i] = 7;
    dsb_sweep_plan plan = {.m = &r->m, .n_scheme = r->n_scheme, .schemes = r->schemes, .n_chunk = n_chunk, .n_ctx = SR_CTX, .tokens = tokens, .targets = targets, .positions = positions, .n_isolated_chunk = n_isolated,
                           .isolated_every = 1, .obs = &obs};
    memset(r->seen, 0, sizeof r->seen);
    if (dsb_sweep_run(&plan, &r->cal, &err)) fail_msg("%s", err.text);
    dsb_calibration_release(&r->cal);
}

static void test_sweep_layout__packed_sequences_are_each_their_own(void **state) {
    sr_run *r = sr_open();
    static dsb_logit_row alone[SR_SCHEMES + 1][SR_CHUNKS * SR_CTX];
    int32_t apart[2 * SR_CTX], packed[2 * SR_CTX], positions[2 * SR_CTX];
    sr_add_preset(r, "bf16");
    sr_add_preset(r, "dynamic-int8");
    /* Chunk 0 begins with sequence A, chunk 1 with B; packed, B follows A in one chunk, behind another one. */
    for (int i = 0; i < SR_CTX; i++) {
        apart[i] = r->tokens[i];
        apart[SR_CTX + i] = r->tokens[SR_CTX + i];
        packed[i] = r->tokens[2 * SR_CTX + i];
        packed[SR_CTX + i] = i < A ? apart[i] : apart[SR_CTX + i - A];
        positions[i] = i;
        positions[SR_CTX + i] = i < A ? i : i - A;
    }
    run_plan(r, 2, apart, NULL, 0);
    memcpy(alone, r->rows, sizeof alone);
    assert_true(r->seen[0][1][DSB_POINT_BLOCK][DSB_KIND_ISOLATED][1]);
    run_plan(r, 2, packed, positions, 1);
    for (int s = 0; s <= r->n_scheme; s++) {
        assert_memory_equal(&r->rows[s][SR_CTX], &alone[s][0], A * sizeof alone[0][0]);
        assert_memory_equal(&r->rows[s][SR_CTX + A], &alone[s][SR_CTX], B * sizeof alone[0][0]);
    }
    /* Isolated figures come from the first chunk alone. */
    assert_true(r->seen[0][1][DSB_POINT_BLOCK][DSB_KIND_ISOLATED][0] && !r->seen[0][1][DSB_POINT_BLOCK][DSB_KIND_ISOLATED][1]);
    assert_true(r->seen[0][1][DSB_POINT_BLOCK][DSB_KIND_ACCUMULATED][1]);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sweep_layout__packed_sequences_are_each_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
