#include "reports/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define PICTURE_LIMIT ((size_t)64 << 20) /* bytes: more is a runaway */

extern char **environ;

typedef struct child {
    pid_t pid;
    int out, err; /* our ends; -1 when closed */
} child;

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void close_all(child *c) {
    close_fd(&c->out);
    close_fd(&c->err);
}

/* Its own process group, so that a hanging gnuplot is killed with whatever it started. */
static int spawn(child *c, const char *program, int in, int out, int err) {
    char *argv[] = { (char *)program, "-d", "/dev/stdin", NULL }; /* -d: no init file; a script by name is read in blocks, by standard input a byte a call */
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, pipe;
    sigemptyset(&none);
    sigemptyset(&pipe);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, err, 2);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    sigaddset(&pipe, SIGPIPE);
    posix_spawnattr_setsigdefault(&attr, &pipe); /* ignored by us, not by it */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int rc = posix_spawnp(&c->pid, program, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* The script as a file in memory, so that nothing is left in the file system. */
static int script_file(const char *script) {
    int fd = memfd_create("dsbench-plot", MFD_CLOEXEC);
    size_t left = strlen(script);
    while (fd >= 0 && left) {
        ssize_t n = write(fd, script, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) close_fd(&fd);
        else script += n, left -= (size_t)n;
    }
    if (fd >= 0) lseek(fd, 0, SEEK_SET);
    return fd;
}

static dsb_status start(child *c, const char *program, const char *script, dsb_err *err) {
    int in = script_file(script), out[2] = { -1, -1 }, errors[2] = { -1, -1 };
    *c = (child){ 0, -1, -1 };
    bool made = in >= 0 && !pipe2(out, O_CLOEXEC) && !pipe2(errors, O_CLOEXEC);
    int rc = made ? spawn(c, program, in, out[1], errors[1]) : errno;
    close_fd(&in);
    close_fd(&out[1]);
    close_fd(&errors[1]);
    c->out = out[0];
    c->err = errors[0];
    if (!rc) return DSB_OK;
    close_all(c);
    if (rc == ENOENT) return dsb_fail(err, DSB_EOUTPUT, "%s: not found, so no plots; install it: apt-get install gnuplot-nox", program);
    return dsb_fail(err, DSB_EOUTPUT, "%s: can't be started: %s", program, strerror(rc));
}

static void read_some(int *fd, dsb_text *text) {
    char buffer[65536];
    ssize_t n = read(*fd, buffer, sizeof buffer);
    if (n > 0 && text->size < PICTURE_LIMIT) dsb_text_bytes(text, buffer, (size_t)n);
    if (n == 0 || (n < 0 && errno != EINTR)) close_fd(fd);
}

/* Drains until both outputs are closed. False when the time is up. */
static bool converse(child *c, double limit_s, dsb_text *out, dsb_text *errors) {
    double end = dsb_now_s() + limit_s;
    while (c->out >= 0 || c->err >= 0) {
        double wait_s = end - dsb_now_s();
        if (wait_s <= 0) return false;
        struct pollfd fds[2] = { { c->out, POLLIN, 0 }, { c->err, POLLIN, 0 } };
        if (poll(fds, 2, wait_s < 1 ? (int)(wait_s * 1000) + 1 : 1000) <= 0) continue;
        if (c->out >= 0 && fds[0].revents) read_some(&c->out, out);
        if (c->err >= 0 && fds[1].revents) read_some(&c->err, errors);
    }
    return true;
}

/* The line of gnuplot's complaint that says what is wrong, without its echo of our script. */
static const char *complaint(const dsb_text *errors) {
    const char *text = errors->data ? errors->data : "it said nothing", *line = strstr(text, "line ");
    return line ? line : text;
}

dsb_status dsb_gnuplot_run(const char *script, double limit_s, dsb_text *out, dsb_err *err) {
    const char *named = getenv("DSBENCH_GNUPLOT"), *program = named && *named ? named : "gnuplot";
    size_t before = out->size;
    int status = 0;
    child c;
    dsb_text errors;
    dsb_text_init(&errors);
    DSB_TRY(start(&c, program, script, err));
    bool ended = converse(&c, limit_s, out, &errors);
    if (!ended) kill(-c.pid, SIGKILL);
    close_all(&c);
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR) continue;
    dsb_status s = DSB_OK;
    if (!ended) s = dsb_fail(err, DSB_EOUTPUT, "%s: no picture after %.3g s, killed", program, limit_s);
    else if (WIFSIGNALED(status)) s = dsb_fail(err, DSB_EOUTPUT, "%s: killed by signal %d", program, WTERMSIG(status));
    else if (WEXITSTATUS(status)) s = dsb_fail(err, DSB_EOUTPUT, "%s: failed (exit code %d): %.300s", program, WEXITSTATUS(status), complaint(&errors));
    else if (out->size == before) s = dsb_fail(err, DSB_EOUTPUT, "%s: wrote nothing: %.300s", program, complaint(&errors));
    else s = dsb_text_check(out, "a picture", err);
    dsb_text_release(&errors);
    return s;
}

static void quote(dsb_text *script, const char *name, int most, bool tic) {
    int shown = 0;
    dsb_text_put(script, "'");
    for (const char *p = name ? name : ""; *p; p++) {
        bool starts = ((unsigned char)*p & 0xc0) != 0x80;
        if (starts && most && shown == most) {
            dsb_text_put(script, "…");
            break;
        }
        shown += starts;
        if ((unsigned char)*p < 32 || *p == 127) dsb_text_put(script, "?");
        else if (*p == '\'') dsb_text_put(script, "’"); /* gnuplot's own '' fails at the beginning of a string */
        else if (*p == '`') dsb_text_put(script, "‘");
        else if (*p == '%' && tic) dsb_text_put(script, "%%");
        else dsb_text_bytes(script, p, 1);
    }
    dsb_text_put(script, "'");
}

void dsb_gnuplot_quote(dsb_text *script, const char *name, int most) { quote(script, name, most, false); }
void dsb_gnuplot_quote_tic(dsb_text *script, const char *name, int most) { quote(script, name, most, true); }
