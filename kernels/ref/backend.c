#include "kernels/portable/table.h"
#include "kernels/ref/gemm.h"

DSB_BACKEND(ref, dsb_plan_ref);
