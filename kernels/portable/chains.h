/* A probe over registers: sums that stand by name, so that all stay in registers, and enough of them that none waits for itself. A step is assembler text,
 * so that no compiler takes equal sums for one. */
#ifndef DSB_KERNELS_PORTABLE_CHAINS_H
#define DSB_KERNELS_PORTABLE_CHAINS_H

#define PB_CHAINS_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define PB_CHAINS_16(X) PB_CHAINS_12(X) X(12) X(13) X(14) X(15)
#define PB_ZERO(i) PB_VECTOR acc##i = PB_NOTHING;
#define PB_KEEP(i) __asm__ volatile("" : : PB_REGISTER(acc##i));
/* name: `turns` turns of acc += a · b, one STEP a chain, `products` each. PB_VECTOR, PB_NOTHING (its zeros), PB_REGISTER (its constraint) are the folder's. */
#define PB_PROBE(name, chains, STEP, products)                           \
    static double name(int64_t turns) {                                  \
        PB_VECTOR a = PB_NOTHING, b = a;                                 \
        PB_CHAINS_##chains(PB_ZERO)                                      \
        for (int64_t t = 0; t < turns; t++) { PB_CHAINS_##chains(STEP) } \
        PB_CHAINS_##chains(PB_KEEP)                                      \
        return 2.0 * products * chains * (double)turns;                  \
    }
/* One instruction of three registers: acc, a, b in the order that `text` names them by %0, %1, %2. */
#define PB_STEP(text, i) __asm__ volatile(text : "+" PB_REGISTER(acc##i) : PB_REGISTER(a), PB_REGISTER(b));

#endif
