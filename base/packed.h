/* Rows of weights that stay packed: blocks of inputs with their scales inside, one after another; what the products of
 * kernels/backend.h decode on the fly. GGUF's types are their files' bytes. MX: the E8M0 byte, then codes; NVFP4: the E4M3 byte, then codes.
 * FP8 and NF4: an f32 scale, then codes. w4a16 and w8a16 (integers beside float activations): an f32 scale, an f32 zero point, then codes,
 * nibbles offset by 8: value = (code - zero) * scale. Nibbles but GGUF's: the even input is the low one. Codes are finite numbers. */
#ifndef DSB_BASE_PACKED_H
#define DSB_BASE_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DSB_PACKED_TYPES(X, with)                                                                                                                       \
    X(with, q4_0) X(with, q5_0) X(with, q8_0) X(with, iq4_nl) X(with, q2_K) X(with, q3_K) X(with, q4_K) X(with, q5_K) X(with, q6_K) X(with, mxfp4)     \
    X(with, mxfp8) X(with, nvfp4) X(with, fp8_e4m3) X(with, fp8_e5m2) X(with, nf4) X(with, w4a16) X(with, w8a16)
#define DSB_PACKED_NAME(prefix, t) prefix##t,
typedef enum dsb_packed_type { DSB_PACKED_TYPES(DSB_PACKED_NAME, DSB_PACKED_) DSB_PACKED_COUNT } dsb_packed_type;

/* How a matrix is packed. */
typedef struct dsb_packed {
    dsb_packed_type type;
    int64_t n;    /* inputs of a block; the last of a row may be shorter where any number may be (below) */
    float global; /* NVFP4: multiplies all scales */
} dsb_packed;

/* The type of a ggml type's blocks; false: none of these. */
bool dsb_packed_of_ggml(uint32_t ggml, dsb_packed_type *out);
/* Bytes before the codes where a block is of any number of inputs; 0 where the type says how many. */
int dsb_packed_header(dsb_packed_type type);
/* Bytes of a block of n inputs, and of a row; codes after a header fill whole words of 4 bytes. */
int64_t dsb_packed_bytes(const dsb_packed *p, int64_t n);
int64_t dsb_packed_row_bytes(const dsb_packed *p, int64_t cols);
/* A block is words of 4 bytes but for up to two fields of 1 or 2, which stand at these bytes; returns how many. */
typedef struct dsb_packed_field {
    int at, width;
} dsb_packed_field;
int dsb_packed_fields(dsb_packed_type type, const dsb_packed_field **out);
/* One block of n inputs to f32, as the formats' own definitions have it. */
void dsb_packed_decode(const dsb_packed *p, const uint8_t *block, int64_t n, float *dst);

#endif
