#include "harness/host.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/model_check.h"

static void cpu_name(char *out, size_t n) {
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, n, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, n, "%s", colon + 2);
        break;
    }
    if (f) fclose(f);
}

dsb_status dsb_host_read(dsb_host_facts *out, dsb_arena *arena, dsb_err *err) {
    char cpu[512], os[600], hash[65], name[256] = "";
    struct utsname u = {0};
    uname(&u);
    gethostname(name, sizeof name - 1);
    dsb_sha256_hex(name, strlen(name), hash);
    hash[16] = 0;
    cpu_name(cpu, sizeof cpu);
    snprintf(os, sizeof os, "%s %s %s", u.sysname, u.release, u.machine);
    *out = (dsb_host_facts){.name_hash = dsb_arena_strdup(arena, hash), .cpu = dsb_arena_strdup(arena, cpu), .os = dsb_arena_strdup(arena, os), .cores = sysconf(_SC_NPROCESSORS_ONLN),
                            .memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)};
    return out->name_hash && out->cpu && out->os ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "no memory for the host's facts");
}

void dsb_model_facts_make(dsb_model_facts *out, const dsb_model *m, const char *path, const char *sha256) {
    const dsb_config *c = &m->config;
    const char *slash = strrchr(path, '/');
    *out = (dsb_model_facts){.path = path, .name = slash && slash[1] ? slash + 1 : path, .arch = c->arch, .sha256 = sha256, .n_param = dsb_model_params(c), .n_layer = c->n_layer, .d_model = c->d_model,
                             .n_expert = c->n_expert, .k = c->router.k, .bytes = (int64_t)m->checkpoint.bytes};
}

const char *dsb_utc_now(dsb_arena *arena) {
    struct timespec t;
    struct tm tm;
    char text[64], whole[80];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(whole, sizeof whole, "%s.%03ldZ", text, t.tv_nsec / 1000000);
    return dsb_arena_strdup(arena, whole);
}

const char *dsb_run_id_make(dsb_arena *arena) {
    struct timespec t;
    struct tm tm;
    char text[64], whole[80];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(text, sizeof text, "%Y%m%d-%H%M%S", &tm);
    snprintf(whole, sizeof whole, "%s-%04x", text, (unsigned)((t.tv_nsec >> 8 ^ getpid()) & 0xffff));
    return dsb_arena_strdup(arena, whole);
}

int64_t dsb_peak_rss_bytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)u.ru_maxrss * 1024;
}

/* The first number of a file, -1 without one. */
static int64_t first_number(const char *path, const char *format) {
    FILE *f = fopen(path, "re");
    long long v = -1;
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, format, &v) == 1) break;
    if (f) fclose(f);
    return v;
}

int64_t dsb_rss_bytes(void) {
    int64_t pages = first_number("/proc/self/statm", "%*d %lld");
    return pages < 0 ? 0 : pages * sysconf(_SC_PAGESIZE);
}

int64_t dsb_memory_available_bytes(void) {
    int64_t kb = first_number("/proc/meminfo", "MemAvailable: %lld"), most = first_number("/sys/fs/cgroup/memory.max", "%lld"), used = first_number("/sys/fs/cgroup/memory.current", "%lld");
    int64_t free_bytes = kb < 0 ? 0 : kb * 1024;
    if (most > 0 && used >= 0 && (free_bytes == 0 || most - used < free_bytes)) free_bytes = most > used ? most - used : 1;
    return free_bytes;
}
