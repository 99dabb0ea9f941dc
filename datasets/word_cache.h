/* Words met before and their ids, for one thread; bounded, so that no text makes it grow without end. */
#ifndef DSB_DATASETS_WORD_CACHE_H
#define DSB_DATASETS_WORD_CACHE_H

#include <stddef.h>
#include <stdint.h>

typedef struct dsb_word_cache dsb_word_cache;

/* NULL when out of memory: encoding goes on without. */
dsb_word_cache *dsb_word_cache_create(void);
void dsb_word_cache_free(dsb_word_cache *cache);
/* The ids of a word, borrowed until the next put; NULL if it isn't there. */
const int32_t *dsb_word_cache_find(const dsb_word_cache *cache, uint64_t hash, const uint8_t *word, size_t n, size_t *n_id);
void dsb_word_cache_put(dsb_word_cache *cache, uint64_t hash, const uint8_t *word, size_t n, const int32_t *ids, size_t n_id);

#endif
