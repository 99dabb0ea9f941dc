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

/* DSB_MATCH_OPEN: more text could change what is found from *begin on; before it nothing matches, whatever follows. */
typedef enum dsb_match { DSB_MATCH_NONE, DSB_MATCH_FOUND, DSB_MATCH_OPEN } dsb_match;

/* First match in subject (n bytes of well-formed UTF-8) at or after `from`: its bytes [*begin, *end). `more`: the subject goes on after n.
 * A pattern that backtracks without end on this text is DSB_EUNSUPPORTED. */
dsb_status dsb_regex_match(const dsb_regex *re, dsb_regex_scratch *scratch, const char *subject, size_t n, size_t from, bool more, dsb_match *found, size_t *begin, size_t *end, dsb_err *err);
/* True where a match depends on nothing before it and is never empty: a search may begin anew at any place that no match crosses. */
bool dsb_regex_is_local(const dsb_regex *re);

/* The PCRE2 pattern for an Oniguruma one; *out is owned, free() it. */
dsb_status dsb_regex_translate(const char *name, const char *pattern, size_t n, char **out, size_t *n_out, dsb_err *err);

#endif
