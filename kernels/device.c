/* Which device a command computes on: the CPU's table, or the CUDA plugin's, found beside the program. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/plugin.h"

/* The plugin's path: beside the program or above it (tests), or ../lib/dsbench where it is installed. */
static bool plugin_path(char *out, size_t room) {
    static const char *const k_place[] = {"", "../", "../lib/dsbench/"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return false;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (!slash) return false;
    slash[1] = 0;
    for (size_t i = 0; i < sizeof k_place / sizeof *k_place; i++) {
        int len = snprintf(out, room, "%s%s" DSB_CUDA_FILE, self, k_place[i]);
        if (len > 0 && (size_t)len < room && access(out, R_OK) == 0) return true;
    }
    return false;
}

static const dsb_backend *open_cuda(int device, char *why, size_t room) {
    char path[PATH_MAX + 64];
    if (!plugin_path(path, sizeof path)) {
        snprintf(why, room, "%s is not beside the program; make cuda builds it", DSB_CUDA_FILE);
        return NULL;
    }
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays open: its table is used until the end */
    if (!lib) {
        snprintf(why, room, "%s", dlerror());
        return NULL;
    }
    dsb_cuda_open_fn *entry;
    *(void **)&entry = dlsym(lib, DSB_CUDA_SYMBOL);
    if (entry) return entry(DSB_CUDA_ABI, device, why, room);
    snprintf(why, room, "%s has no %s: it is no plugin of dsbench", DSB_CUDA_FILE, DSB_CUDA_SYMBOL);
    return NULL;
}

static const dsb_backend *chosen;
static char chosen_name[32];

dsb_status dsb_device_choose(const char *name, char *note, size_t room, dsb_err *err) {
    long device = 0;
    char *end;
    *note = 0;
    chosen = NULL;
    if (strcmp(name, "cpu") == 0) return DSB_OK;
    if (strncmp(name, "cuda", 4) != 0 || (name[4] && name[4] != ':')) return dsb_fail(err, DSB_EUSAGE, "--device %s is unknown; cpu, cuda or cuda:N is wanted", name);
    if (name[4]) {
        device = strtol(name + 5, &end, 10);
        if (end == name + 5 || *end || device < 0 || device > INT_MAX) return dsb_fail(err, DSB_EUSAGE, "--device %s: '%s' is no number of a GPU; cuda:0, cuda:1 … are", name, name + 5);
    }
    char why[512];
    chosen = open_cuda((int)device, why, sizeof why);
    snprintf(chosen_name, sizeof chosen_name, "cuda:%ld", device);
    if (!chosen) snprintf(note, room, "--device %s: %s; computing on the CPU", name, why);
    return DSB_OK;
}

const char *dsb_device_name(void) { return chosen ? chosen_name : "cpu"; }
const dsb_backend *dsb_device(void) { return chosen ? chosen : dsb_backend_cpu(NULL); }
