/* The named presets: recipes as JSON, read by the same parser as a recipe file. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "quantizers/recipe.h"

static const dsb_preset_row k_preset[] = {
    {"bf16", "the stored weights with BF16 activations: the noise floor",
     "{\"name\":\"bf16\",\"rules\":[{\"role\":\"*\",\"format\":\"bf16\"}]}"},
    {"as-stored", "a pre-quantized checkpoint as it is: stored codes in low-bit kernels where there are any, else decoded; activations as its config.json says",
     "{\"name\":\"as-stored\",\"source\":\".\",\"rules\":[{\"role\":\"*\",\"format\":\"keep\"}]}"},
    {"dynamic-int8", "W8A8: INT8 weights per output channel, activations INT8 per token as they come",
     "{\"name\":\"dynamic-int8\",\"rules\":[{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"static-int8", "W8A8: INT8 weights per output channel, activations INT8 with one calibrated scale a tensor; router kept",
     "{\"name\":\"static-int8\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-static\"}]}"},
    {"mixed-fp16-int8", "attention projections FP16, router kept, the rest W8A8 with dynamic activations",
     "{\"name\":\"mixed-fp16-int8\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\"},{\"role\":\"attn.*\",\"format\":\"f16\"},"
     "{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"sparse-expert", "INT8, but INT4 (group 32) for the half of each layer's experts that is routed least and the quarter with the smallest mean |W|",
     "{\"name\":\"sparse-expert\",\"rules\":[{\"role\":\"expert.*\",\"when\":{\"activity_rank_below\":0.5},\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"expert.*\",\"when\":{\"mean_abs_rank_below\":0.25},\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"sparse-activity", "experts at 6.5 bits a weight on average: INT8 for those of each layer that calibration tokens weigh most, INT4 (group 32) for the others; the rest INT8",
     "{\"name\":\"sparse-activity\",\"rules\":[{\"role\":\"expert.*\",\"when\":{\"budget\":{\"bits\":6.5,\"by\":\"activity\"}},\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"expert.*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"sparse-sensitivity", "experts at 6.5 bits a weight on average: INT8 for those of each layer whose outputs INT4 changes most, INT4 (group 32) for the others; the rest INT8",
     "{\"name\":\"sparse-sensitivity\",\"rules\":[{\"role\":\"expert.*\",\"when\":{\"budget\":{\"bits\":6.5,\"by\":\"sensitivity\"}},\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"expert.*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"sparse-mean-abs", "experts at 6.5 bits a weight on average: INT8 for those of each layer with the largest mean |W|, INT4 (group 32) for the others; the rest INT8",
     "{\"name\":\"sparse-mean-abs\",\"rules\":[{\"role\":\"expert.*\",\"when\":{\"budget\":{\"bits\":6.5,\"by\":\"mean_abs\"}},\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"expert.*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"sparse-even", "experts at 6.5 bits a weight on average: INT8 for those of each layer spread evenly over the indices, INT4 (group 32) for the others; the rest INT8",
     "{\"name\":\"sparse-even\",\"rules\":[{\"role\":\"expert.*\",\"when\":{\"budget\":{\"bits\":6.5,\"by\":\"even\"}},\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"expert.*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"qat-int8", "reads the checkpoint trained for INT8 (folder qat-int8): its codes as stored, activations INT8 per token",
     "{\"name\":\"qat-int8\",\"source\":\"qat-int8\",\"rules\":[{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-dynamic\"}]}"},
    {"qat-int4", "reads the checkpoint trained for INT4 in groups of 32 (folder qat-int4): its codes as stored, activations INT8 per token",
     "{\"name\":\"qat-int4\",\"source\":\"qat-int4\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"}]}"},
    {"int4-rtn", "W4A8: INT4 weights in groups of 32 by round-to-nearest, activations INT8 per token",
     "{\"name\":\"int4-rtn\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\"}]}"},
    {"int4-low-rank", "int4-rtn, and beside each weight BF16 factors of rank 16 for the part of its error that costs outputs most",
     "{\"name\":\"int4-low-rank\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\",\"compensation\":\"low-rank\",\"rank\":16}]}"},
    {"int4-compensated", "int4-rtn with group scales of least output error and the mean error as a bias, by the quantized model's own inputs",
     "{\"name\":\"int4-compensated\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\",\"compensation\":[\"layer-scale-gradient\",\"bias\",\"recalibrate\"]}]}"},
    {"int3-router", "int3-rtn with routers re-fitted so that they select as the reference does",
     "{\"name\":\"int3-router\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\",\"compensation\":\"router\"},{\"role\":\"*\",\"format\":\"int3\",\"group\":32,\"activation\":\"int8-dynamic\"}]}"},
    {"int3-rtn", "W3A8: INT3 weights in groups of 32 by round-to-nearest, activations INT8 per token",
     "{\"name\":\"int3-rtn\",\"rules\":[{\"role\":\"*\",\"format\":\"int3\",\"group\":32,\"activation\":\"int8-dynamic\"}]}"},
    {"smooth-int8", "static-int8 with SmoothQuant (alpha 0.5): one calibrated scale a tensor of inputs whose channels were evened",
     "{\"name\":\"smooth-int8\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\"},{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-static\",\"transform\":\"smooth\"}]}"},
    {"smooth-int8-search", "smooth-int8, each linear with the alpha of least output error in calibration",
     "{\"name\":\"smooth-int8-search\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\"},"
     "{\"role\":\"*\",\"format\":\"int8\",\"group\":\"channel\",\"activation\":\"int8-static\",\"transform\":\"smooth\",\"alpha\":\"search\"}]}"},
    {"int4-hadamard", "int4-rtn with inputs and weights rotated by a Hadamard matrix",
     "{\"name\":\"int4-hadamard\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int8-dynamic\",\"transform\":\"hadamard\"}]}"},
    {"w4a4-hadamard", "w4a4 with inputs and weights rotated by a Hadamard matrix",
     "{\"name\":\"w4a4-hadamard\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int4-dynamic\",\"transform\":\"hadamard\"}]}"},
    {"w4a4-rotate", "w4a4 with the residual stream rotated by a Hadamard matrix, norms folded, and the other inputs of products rotated as they come",
     "{\"name\":\"w4a4-rotate\",\"rotate\":\"hadamard\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int4-dynamic\",\"transform\":\"hadamard\"}]}"},
    {"w4a4", "W4A4: INT4 weights in groups of 32, activations INT4 per token",
     "{\"name\":\"w4a4\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"activation\":\"int4-dynamic\"}]}"},
    {"int4-mse", "W4A8: INT4 weights in groups of 32, each over the range of least squared error",
     "{\"name\":\"int4-mse\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"rtn-mse\",\"activation\":\"int8-dynamic\"}]}"},
    {"int4-kl", "W4A8: INT4 weights in groups of 32, none over more than the range that the KL calibrator gives its matrix",
     "{\"name\":\"int4-kl\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"rtn-kl\",\"activation\":\"int8-dynamic\"}]}"},
    {"int4-gptq", "W4A8: INT4 weights in groups of 32 by GPTQ, activations INT8 per token",
     "{\"name\":\"int4-gptq\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"gptq\",\"activation\":\"int8-dynamic\"}]}"},
    {"int4-gptq-actorder", "int4-gptq, columns by falling activation",
     "{\"name\":\"int4-gptq-actorder\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"gptq\",\"act_order\":true,\"activation\":\"int8-dynamic\"}]}"},
    {"int4-awq", "W4A8: INT4 weights in groups of 32 scaled by AWQ, activations INT8 per token",
     "{\"name\":\"int4-awq\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"awq\",\"activation\":\"int8-dynamic\"}]}"},
    {"int4-awq-clip", "int4-awq with groups cut where that leaves less output error, projections to queries and keys (q_…, k_…) left out",
     "{\"name\":\"int4-awq-clip\",\"rules\":[{\"match\":\"*.self_attn.[qk]_*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"awq\",\"activation\":\"int8-dynamic\"},"
     "{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"algorithm\":\"awq\",\"activation\":\"int8-dynamic\",\"clip\":true}]}"},
    {"int4-affine", "INT4 weights in groups of 32 with zero points, activations as the carrier",
     "{\"name\":\"int4-affine\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"zero_point\":true}]}"},
    {"int4-hqq", "INT4 weights in groups of 32 with real zero points by HQQ, activations as the carrier",
     "{\"name\":\"int4-hqq\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\",\"group\":32,\"zero_point\":\"real\",\"algorithm\":\"hqq\"}]}"},
    {"int3-hqq", "INT3 weights in groups of 32 with real zero points by HQQ, activations as the carrier",
     "{\"name\":\"int3-hqq\",\"rules\":[{\"role\":\"*\",\"format\":\"int3\",\"group\":32,\"zero_point\":\"real\",\"algorithm\":\"hqq\"}]}"},
    {"int3-gptq", "W3A8: INT3 weights in groups of 32 by GPTQ, activations INT8 per token",
     "{\"name\":\"int3-gptq\",\"rules\":[{\"role\":\"*\",\"format\":\"int3\",\"group\":32,\"algorithm\":\"gptq\",\"activation\":\"int8-dynamic\"}]}"},
    {"fp8", "W8A8: FP8 E4M3 weights per output channel, activations E4M3 per token",
     "{\"name\":\"fp8\",\"rules\":[{\"role\":\"*\",\"format\":\"fp8_e4m3\",\"activation\":\"fp8-dynamic\"}]}"},
    {"fp8-static", "W8A8: FP8 E4M3 weights per output channel, activations E4M3 with one calibrated scale a tensor",
     "{\"name\":\"fp8-static\",\"rules\":[{\"role\":\"*\",\"format\":\"fp8_e4m3\",\"activation\":\"fp8-static\"}]}"},
    {"fp8-block", "W8A8: FP8 E4M3 weights in blocks of 128 x 128 as DeepSeek-V3 stores them, activations E4M3 per token",
     "{\"name\":\"fp8-block\",\"rules\":[{\"role\":\"*\",\"format\":\"fp8_e4m3\",\"group\":128,\"activation\":\"fp8-dynamic\"}]}"},
    {"nf4", "NF4 weights in groups of 64, activations as the carrier",
     "{\"name\":\"nf4\",\"rules\":[{\"role\":\"*\",\"format\":\"nf4\"}]}"},
    {"mxfp4", "MXFP4 weights (32), activations as the carrier; q8_0 where blocks do not divide a row",
     "{\"name\":\"mxfp4\",\"rules\":[{\"role\":\"*\",\"format\":\"mxfp4\",\"fallback\":\"q8_0\"}]}"},
    {"mxfp8", "MXFP8 weights (32), activations as the carrier; q8_0 where blocks do not divide a row",
     "{\"name\":\"mxfp8\",\"rules\":[{\"role\":\"*\",\"format\":\"mxfp8\",\"fallback\":\"q8_0\"}]}"},
    {"nvfp4", "NVFP4 weights (16), activations as the carrier; q8_0 where blocks do not divide a row",
     "{\"name\":\"nvfp4\",\"rules\":[{\"role\":\"*\",\"format\":\"nvfp4\",\"fallback\":\"q8_0\"}]}"},
    {"q8_0", "GGUF q8_0 weights, activations as the carrier; BF16 where 32 does not divide a row",
     "{\"name\":\"q8_0\",\"rules\":[{\"role\":\"*\",\"format\":\"q8_0\",\"fallback\":\"bf16\"}]}"},
    {"q5_0", "GGUF q5_0 weights, activations as the carrier; BF16 where 32 does not divide a row",
     "{\"name\":\"q5_0\",\"rules\":[{\"role\":\"*\",\"format\":\"q5_0\",\"fallback\":\"bf16\"}]}"},
    {"q4_0", "GGUF q4_0 weights, activations as the carrier; BF16 where 32 does not divide a row",
     "{\"name\":\"q4_0\",\"rules\":[{\"role\":\"*\",\"format\":\"q4_0\",\"fallback\":\"bf16\"}]}"},
    {"iq4_nl", "GGUF iq4_nl weights, activations as the carrier; BF16 where 32 does not divide a row",
     "{\"name\":\"iq4_nl\",\"rules\":[{\"role\":\"*\",\"format\":\"iq4_nl\",\"fallback\":\"bf16\"}]}"},
    {"q6_K", "GGUF q6_K weights, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q6_K\",\"rules\":[{\"role\":\"*\",\"format\":\"q6_K\",\"fallback\":\"q8_0\"}]}"},
    {"q5_K", "GGUF q5_K weights, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q5_K\",\"rules\":[{\"role\":\"*\",\"format\":\"q5_K\",\"fallback\":\"q8_0\"}]}"},
    {"q4_K", "GGUF q4_K weights, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q4_K\",\"rules\":[{\"role\":\"*\",\"format\":\"q4_K\",\"fallback\":\"q8_0\"}]}"},
    {"q3_K", "GGUF q3_K weights, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q3_K\",\"rules\":[{\"role\":\"*\",\"format\":\"q3_K\",\"fallback\":\"q8_0\"}]}"},
    {"q2_K", "GGUF q2_K weights, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q2_K\",\"rules\":[{\"role\":\"*\",\"format\":\"q2_K\",\"fallback\":\"q8_0\"}]}"},
    {"q4_K-imatrix", "GGUF q4_K weights by the importance of input columns in calibration, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q4_K-imatrix\",\"rules\":[{\"role\":\"*\",\"format\":\"q4_K\",\"fallback\":\"q8_0\",\"algorithm\":\"imatrix\"}]}"},
    {"q3_K-imatrix", "GGUF q3_K weights by the importance of input columns in calibration, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q3_K-imatrix\",\"rules\":[{\"role\":\"*\",\"format\":\"q3_K\",\"fallback\":\"q8_0\",\"algorithm\":\"imatrix\"}]}"},
    {"q2_K-imatrix", "GGUF q2_K weights by the importance of input columns in calibration, activations as the carrier; q8_0 where 256 does not divide a row",
     "{\"name\":\"q2_K-imatrix\",\"rules\":[{\"role\":\"*\",\"format\":\"q2_K\",\"fallback\":\"q8_0\",\"algorithm\":\"imatrix\"}]}"},
};

int dsb_preset_list(const dsb_preset_row **rows) {
    *rows = k_preset;
    return (int)(sizeof k_preset / sizeof *k_preset);
}

dsb_status dsb_recipe_preset(const dsb_recipe **out, dsb_arena *arena, const char *name, dsb_err *err) {
    char known[1024] = "";
    for (size_t i = 0; i < sizeof k_preset / sizeof *k_preset; i++) {
        if (strcmp(k_preset[i].name, name) == 0) {
            json_t *doc;
            DSB_TRY(dsb_json_parse(&doc, name, k_preset[i].json, strlen(k_preset[i].json), err));
            json_object_set_new(doc, "what", json_string(k_preset[i].what)); /* stored with the recipe */
            dsb_status s = dsb_recipe_parse(out, arena, name, doc, err);
            json_decref(doc);
            return s;
        }
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", k_preset[i].name);
    }
    return dsb_fail(err, DSB_EUSAGE, "scheme \"%s\" is unknown; one of %s, or a recipe file, is wanted", name, known);
}
