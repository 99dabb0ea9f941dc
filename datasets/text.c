#include "datasets/text.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static dsb_status read_stream(FILE *f, const char *path, char **data, size_t *n, dsb_err *err) {
    size_t room = 0;
    *data = NULL;
    *n = 0;
    for (;;) {
        if (room - *n < 65536) {
            room = room ? 2 * room : 1 << 20;
            char *grown = realloc(*data, room);
            if (!grown) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for %zu bytes of text", path, room);
            *data = grown;
        }
        size_t k = fread(*data + *n, 1, room - *n - 1, f);
        if (k == 0) break;
        *n += k;
    }
    if (ferror(f)) return dsb_fail(err, DSB_EINPUT, "%s: can't be read: %s", path, strerror(errno));
    return DSB_OK;
}

/* A private map with a zero byte behind the file's: the pages are the file's own until the reflow writes to them. */
static dsb_status map_file(dsb_text_file *out, const char *path, dsb_err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused below, not waited for */
    if (fd < 0) return dsb_fail(err, DSB_EINPUT, "%s: can't be opened: %s", path, strerror(errno));
    dsb_status s = fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ? dsb_fail(err, DSB_EINPUT, "%s: not a regular file", path) : DSB_OK;
    size_t n = s ? 0 : (size_t)st.st_size;
    void *p = s ? MAP_FAILED : mmap(NULL, n + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!s && p == MAP_FAILED) s = dsb_fail(err, DSB_ENOMEM, "%s: no memory for %zu bytes of text", path, n);
    if (!s) {
        out->data = p;
        out->mapped = n + 1;
        out->clean = true;
        out->n = n;
        if (n && mmap(p, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) s = dsb_fail(err, DSB_EINPUT, "%s: can't be mapped: %s", path, strerror(errno));
    }
    close(fd);
    return s;
}

void dsb_text_forget(const dsb_text_file *t, size_t from, size_t to) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), a = from / page * page, b = to == t->n ? t->mapped : to / page * page;
    if (t->clean && b > a) madvise(t->data + a, b - a, MADV_DONTNEED);
}

enum { PIECE = 8 << 20 };

/* Checks and hashes piece by piece; the offset of the first bad byte, or n. */
static size_t check_and_hash(dsb_text_file *t) {
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    for (size_t from = 0, end; from < t->n; from = end) {
        end = t->n - from > PIECE ? from + PIECE : t->n;
        for (int i = 0; i < 3 && end < t->n && ((unsigned char)t->data[end] & 0xc0) == 0x80; i++) end--; /* not within a character */
        size_t good = dsb_utf8_check(t->data + from, end - from);
        if (good < end - from) return from + good;
        sha256_update(&sha, end - from, (const uint8_t *)t->data + from);
        dsb_text_forget(t, from, end);
    }
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(t->sha256 + 2 * i, 3, "%02x", digest[i]);
    return t->n;
}

dsb_status dsb_text_file_load(dsb_text_file *out, const char *path, dsb_err *err) {
    *out = (dsb_text_file){.n_document = 1};
    bool piped = strcmp(path, "-") == 0;
    if (piped) path = "standard input";
    dsb_status s = piped ? read_stream(stdin, path, &out->data, &out->n, err) : map_file(out, path, err);
    if (!s && piped) out->data[out->n] = 0;
    size_t bad = s ? 0 : check_and_hash(out);
    if (!s && bad < out->n)
        s = dsb_fail(err, DSB_EINPUT, "%s: byte 0x%02x at offset %zu isn't UTF-8; convert the text first (iconv -t UTF-8)", path, (unsigned char)out->data[bad], bad);
    if (s) dsb_text_file_release(out);
    return s;
}

void dsb_text_drop(dsb_text_file *text) {
    if (text->mapped) munmap(text->data, text->mapped);
    else free(text->data);
    text->data = NULL;
    text->mapped = 0;
}

void dsb_text_file_release(dsb_text_file *text) {
    dsb_text_drop(text);
    *text = (dsb_text_file){0};
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_no_break_space(const char *p) { return (unsigned char)p[0] == 0xc2 && (unsigned char)p[1] == 0xa0; }

/* Narrows from..end to what is left without blanks and no-break spaces on either side. */
static void strip(const char *d, size_t *from, size_t *end) {
    while (*from < *end) {
        if (is_blank(d[*from])) *from += 1;
        else if (*end - *from >= 2 && is_no_break_space(d + *from)) *from += 2;
        else break;
    }
    while (*end > *from) {
        if (is_blank(d[*end - 1])) *end -= 1;
        else if (*end - *from >= 2 && is_no_break_space(d + *end - 2)) *end -= 2;
        else break;
    }
}

void dsb_text_reflow(dsb_text_file *text) {
    char *d = text->data;
    size_t to = 0;
    text->clean = false;
    bool open = false; /* the paragraph before this line goes on */
    for (size_t from = 0; from < text->n;) {
        const char *newline = memchr(d + from, '\n', text->n - from);
        size_t end = newline ? (size_t)(newline - d) : text->n, next = end + 1;
        strip(d, &from, &end);
        if (from < end) {
            /* Never longer than what was read: the newlines before this line pay for what joins it. */
            if (open) d[to++] = ' ';
            else if (to) d[to++] = '\n', d[to++] = '\n';
            memmove(d + to, d + from, end - from);
            to += end - from;
        }
        open = from < end;
        from = next;
    }
    text->n = to;
    if (d) d[to] = 0;
    dsb_sha256_hex(d ? d : "", to, text->sha256);
}
