/* Table 1 of a recipe: formats. `keep` is no row: it stands for the stored weights, and a rule without a format. */
#include <stdio.h>
#include <string.h>

#include "quantizers/codec.h"

#define FLOAT(name, bits, what) {name, what, bits, .is_float = true, .group = DSB_GROUP_CHANNEL}
#define INT(name, bits, qmax, group_of, what) {name, what, bits, qmax, .group = group_of, .scale_bits = 32}
#define FP8(name, of, top, what) {name, what, 8, .group = DSB_GROUP_CHANNEL, .codec = &dsb_codec_fp8, .scale_bits = 32, .element = of, .largest = top}
#define BLOCKS(name, bits, n, by, what, ...) {name, what, bits, .group = n, .codec = by, .scale_bits = 8, .block = n, __VA_ARGS__}
#define GGML(name, bits, n, id, what) {name, what, bits, .group = n, .codec = &dsb_codec_ggml, .block = n, .ggml = id}

static const dsb_format k_format[] = {
    FLOAT("f32", 32, "IEEE single: the stored weights as they are"),
    FLOAT("f16", 16, "IEEE half, rounded to nearest even; overflow becomes infinity"),
    FLOAT("bf16", 16, "bfloat16, rounded to nearest even"),
    INT("int8", 8, 127, DSB_GROUP_CHANNEL, "8-bit integers: symmetric within 127, or affine with zero points"),
    INT("int4", 4, 7, 32, "4-bit integers: symmetric within 7, or affine"),
    INT("int3", 3, 3, 32, "3-bit integers: symmetric within 3, or affine"),
    INT("int2", 2, 1, 32, "2-bit integers: symmetric within 1, or affine"),
    FP8("fp8_e4m3", DSB_FP8_E4M3, 448, "8-bit floats, 3 bits of mantissa, up to 448; one scale a tensor, a channel or a block of 128 x 128"),
    FP8("fp8_e5m2", DSB_FP8_E5M2, 57344, "8-bit floats, 2 bits of mantissa, up to 57344; scales alike"),
    {"nf4", "16 quantiles of the normal distribution over absmax, groups counted through the whole matrix", 4, .group = 64, .codec = &dsb_codec_nf4, .scale_bits = 32},
    BLOCKS("mxfp4", 4, 32, &dsb_codec_mxfp4, "OCP microscaling: E2M1 codes, a power of two for 32", .global_scale = false),
    BLOCKS("mxfp8", 8, 32, &dsb_codec_mxfp8, "OCP microscaling: E4M3 codes, a power of two for 32", .global_scale = false),
    BLOCKS("nvfp4", 4, 16, &dsb_codec_nvfp4, "E2M1 codes, an E4M3 scale for 16, one f32 for the tensor", .global_scale = true),
    GGML("q8_0", 8, 32, 8, "GGUF: 8-bit integers, an f16 scale for 32"),
    GGML("q4_0", 4, 32, 2, "GGUF: 4-bit integers, an f16 scale for 32"),
    GGML("q5_0", 5, 32, 6, "GGUF: 5-bit integers, an f16 scale for 32"),
    GGML("q2_K", 2, 256, 10, "GGUF: 2-bit codes, 4-bit scales and minima for 16, f16 ones for 256"),
    GGML("q3_K", 3, 256, 11, "GGUF: 3-bit codes, 6-bit scales for 16, an f16 one for 256"),
    GGML("q4_K", 4, 256, 12, "GGUF: 4-bit codes, 6-bit scales and minima for 32, f16 ones for 256"),
    GGML("q5_K", 5, 256, 13, "GGUF: 5-bit codes, 6-bit scales and minima for 32, f16 ones for 256"),
    GGML("q6_K", 6, 256, 14, "GGUF: 6-bit codes, 8-bit scales for 16, an f16 one for 256"),
    GGML("iq4_nl", 4, 32, 20, "GGUF: 16 levels of uneven steps, an f16 scale for 32"),
};

const dsb_format *dsb_format_find(const char *name) {
    for (size_t i = 0; i < sizeof k_format / sizeof *k_format; i++)
        if (strcmp(k_format[i].name, name) == 0) return &k_format[i];
    return NULL;
}

int dsb_format_list(const dsb_format **rows) {
    *rows = k_format;
    return (int)(sizeof k_format / sizeof *k_format);
}

bool dsb_format_takes_group(const dsb_format *f, int64_t group, const char **wanted) {
    const char *none;
    if (!wanted) wanted = &none;
    if (f->is_float) {
        *wanted = "none with keep or a float format";
        return false;
    }
    if (f->block) {
        *wanted = f->block == 16 ? "16, the format's own block," : f->block == 32 ? "32, the format's own block," : "256, the format's own block,";
        return group == f->block;
    }
    *wanted = f->codec == &dsb_codec_fp8 ? "tensor, channel or 128 (blocks of 128 x 128)" : "tensor, channel or a number of inputs";
    return f->codec != &dsb_codec_fp8 || group <= 0 || group == DSB_FP8_BLOCK;
}

bool dsb_format_divides(const dsb_format *f, int64_t cols) { return f->block == 0 || cols % f->block == 0; }

bool dsb_format_by_rows(const dsb_format *f, int64_t group, int64_t cols) {
    if (f->is_float) return true;
    if (group == DSB_GROUP_TENSOR || f->global_scale) return false;
    if (f->codec == &dsb_codec_nf4) return group == DSB_GROUP_CHANNEL || cols % group == 0;
    return f->codec != &dsb_codec_fp8 || group == DSB_GROUP_CHANNEL;
}

double dsb_zero_bits(dsb_zero zero, const dsb_format *f) { return zero == DSB_ZERO_REAL ? 32 : zero ? f->bits : 0; }

double dsb_format_bpw(const dsb_format *f) {
    if (f->ggml) return 8.0 * (double)dsb_ggml_find(f->ggml)->bytes / (double)f->block;
    return f->bits + (f->group > 0 ? (double)f->scale_bits / (double)f->group : 0);
}

void dsb_group_name(int64_t group, char out[24]) {
    if (group > 0) snprintf(out, 24, "%lld", (long long)group);
    else snprintf(out, 24, "%s", group == DSB_GROUP_CHANNEL ? "channel" : "tensor");
}
