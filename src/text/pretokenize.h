/* SPDX-License-Identifier: MIT */
/* Splitting text into pieces that BPE merges on their own: the regular expressions that a
 * vocabulary names in tokenizer.ggml.pre, run by PCRE2. */
#ifndef TR_PRETOKENIZE_H
#define TR_PRETOKENIZE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "trueno/gguf.h"

enum { TR_PRE_PASSES_MAX = 6 };

/* Compiled expressions; immutable after init. Zeroed: none. */
struct tr_pre {
    pcre2_general_context *memory; /* allocates through the context's hooks */
    pcre2_match_context *limits;
    pcre2_code *pass[TR_PRE_PASSES_MAX];
    uint32_t n_passes;
    bool ignore_merges; /* a piece that is a token needs no merging */
};

/* True if there are expressions of that name. `add_bos`: default of tokenizer.ggml.add_bos_token.
 */
bool tr_pre_known(trueno_str name, bool *add_bos);

/* Compiles the expressions of `name`, or the default ones if it is unknown. A failure leaves
 * something that tr_pre_free takes. @return OK; ERR_NO_MEMORY; ERR_UNSUPPORTED (PCRE2 was built
 * without Unicode) */
trueno_status tr_pre_init(struct tr_pre *pre, trueno_ctx *ctx, trueno_str name, trueno_error *err);
void tr_pre_free(struct tr_pre *pre);

/* Receives one piece; anything but OK ends the split with that status. */
typedef trueno_status (*tr_piece_fn)(void *arg, const char *piece, size_t len, trueno_error *err);

/* Memory for the matches of one call of encode; NULL: none left. Freed by pcre2_match_data_free. */
pcre2_match_data *tr_pre_match_data(const struct tr_pre *pre);

/* Calls `fn` for the pieces of `text`, in order; together they are the text. Bytes that are not
 * UTF-8 are pieces of their own. @return OK; ERR_NO_MEMORY; ERR_TOO_LARGE (match limit); what `fn`
 * returned */
trueno_status tr_pre_split(const struct tr_pre *pre, pcre2_match_data *match, const char *text,
                           size_t len, tr_piece_fn fn, void *arg, trueno_error *err);

#endif
