/* Oniguruma patterns (Ruby syntax, as tokenizer.json has them) run by PCRE2: what both read alike is passed on,
 * what they read differently is rewritten, the rest is DSB_EUNSUPPORTED and named. */
#ifndef DSB_DATASETS_REGEX_H
#define DSB_DATASETS_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct dsb_regex dsb_regex;
typedef struct dsb_regex_scratch dsb_regex_scratch; /* one per thread */

/* literal: the pattern is plain text. `name` is the file, for messages. */
dsb_status dsb_regex_open(dsb_regex **out, const char *name, const char *pattern, size_t n, bool literal, dsb_err *err);
void dsb_regex_close(dsb_regex *re);
dsb_status dsb_regex_scratch_open(dsb_regex_scratch **out, dsb_err *err);
void dsb_regex_scratch_close(dsb_regex_scratch *scratch);

/* First match in subject (n bytes of well-formed UTF-8) at or after `from`: *found, and its bytes [*begin, *end). */
dsb_status dsb_regex_match(const dsb_regex *re, dsb_regex_scratch *scratch, const char *subject, size_t n, size_t from, bool *found, size_t *begin, size_t *end, dsb_err *err);

/* The PCRE2 pattern for an Oniguruma one; *out is owned, free() it. */
dsb_status dsb_regex_translate(const char *name, const char *pattern, size_t n, char **out, size_t *n_out, dsb_err *err);

#endif
