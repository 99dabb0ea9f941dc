#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

dsb_status dsb_fail(dsb_err *err, dsb_status code, const char *fmt, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)err->text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
    return code;
}

int dsb_exit_code(dsb_status code) {
    switch (code) {
    case DSB_OK: return 0;
    case DSB_ENONFINITE:
    case DSB_EREGRESSED: return 1;
    case DSB_EUSAGE:
    case DSB_EINPUT:
    case DSB_EUNSUPPORTED: return 2;
    case DSB_ECOMPARE: return 3;
    case DSB_EOUTPUT:
    case DSB_ENOMEM: return 4;
    default: return 5;
    }
}
