/* Whether a checkpoint holds every tensor a model needs, in the right shapes, before anything is computed or stored. */
#ifndef DSB_ENGINE_MODEL_CHECK_H
#define DSB_ENGINE_MODEL_CHECK_H

#include "engine/model.h"

/* DSB_EINPUT names the first tensor that is missing or of another shape or type. Reads headers only. */
dsb_status dsb_model_check(const dsb_model *m, const dsb_checkpoint *cp, dsb_err *err);
/* DSB_EINPUT where a rule may give a tensor a format whose blocks divide its rows no more than its fallback's do. used
 * (n_rule, may be NULL) receives the rules that may decide a tensor; then a block's weight that no rule without a test takes is DSB_EINPUT too. */
dsb_status dsb_model_check_recipe(const dsb_model *m, const dsb_recipe *recipe, bool *used, dsb_err *err);
/* Integers that a scheme's own checkpoint stores run as they are: DSB_EINPUT where a rule may name another format for them, but a float one (decoded) or keep. */
dsb_status dsb_model_check_stored(const dsb_model *m, const dsb_scheme *scheme, dsb_err *err);
/* DSB_EINPUT where n tokens are more than config.json's max_position_embeddings (2048 where it has none); `what` begins the message. */
dsb_status dsb_model_check_length(const dsb_model *m, const char *dir, const char *what, int64_t n, dsb_err *err);
/* Whether tensors of layers beyond the model's are stored (multi-token prediction, or a config.json cut short): *text then says that they are skipped. */
bool dsb_model_skipped(const dsb_model *m, char text[200]);
/* Weights of the whole model. */
int64_t dsb_model_params(const dsb_config *c);

#endif
