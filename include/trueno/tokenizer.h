/* SPDX-License-Identifier: MIT */
/** @file tokenizer.h
 *  Text to token ids and back, as a GGUF file's vocabulary says; streaming detokeniser; chat
 * templates.
 *
 *  Input is bytes with a length and may be anything: invalid UTF-8 never fails and survives the
 * round trip. A `trueno_tokenizer` is immutable and may be used from several threads; a
 * `trueno_detokenizer` belongs to one. Supported vocabularies: SPM ("llama") and byte-level BPE
 * ("gpt2"). Sources: SentencePiece (Kudo 2018), GPT-2 BPE (Radford 2019), and the pre-tokenizer
 * expressions listed in docs/tokenizers.md.
 */
#ifndef TRUENO_TOKENIZER_H
#define TRUENO_TOKENIZER_H

#include "base.h"
#include "gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Token id. Valid ids are 0 .. n_vocab-1; TRUENO_TOKEN_NONE means "there is none". */
typedef int32_t trueno_token;
/** No token. */
#define TRUENO_TOKEN_NONE ((trueno_token)-1)

/** A vocabulary. Immutable, shareable between threads. */
typedef struct trueno_tokenizer trueno_tokenizer;

/** Options of trueno_tokenizer_new. */
typedef struct trueno_tokenizer_options {
    size_t struct_size;
    bool strict_pre; /**< an unknown `tokenizer.ggml.pre` is ERR_UNSUPPORTED; false: a warning in
                        the log, and the default expressions */
} trueno_tokenizer_options;

#define TRUENO_TOKENIZER_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(trueno_tokenizer_options), false                                                    \
    }

/** Reads the vocabulary of an open file. `g` may be freed afterwards. `opt` NULL: defaults. On
 * success the caller owns
 *  `*out`. @return OK; ERR_ARGUMENT; ERR_CORRUPT (`err` names the key); ERR_UNSUPPORTED (vocabulary
 * type); ERR_NOT_FOUND (the file has no vocabulary: tokenizer.ggml.model absent or "no_vocab");
 * ERR_TOO_LARGE; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_tokenizer_new(trueno_tokenizer **out, const trueno_gguf *g,
                                              const trueno_tokenizer_options *opt,
                                              trueno_error *err);
TRUENO_API void trueno_tokenizer_free(trueno_tokenizer *t);

/** How to encode. Combine with |. */
typedef enum trueno_encode_flag {
    TRUENO_ENCODE_SPECIAL = 1 << 0, /**< add BOS and EOS where the vocabulary's rules say so */
    TRUENO_ENCODE_PARSE =
        1 << 1 /**< text such as "<|im_end|>" becomes the control token; leave it off for text
                    typed by users. User-defined tokens are always recognised */
} trueno_encode_flag;

/** Encodes `len` bytes of text. Writes at most `cap` ids to `ids` and the number of all ids to `*n`
 * (snprintf rule: call with cap 0 to count). @return OK, also when `cap` was too small;
 * ERR_ARGUMENT; ERR_TOO_LARGE (text above 64 MiB, or beyond the match limit of the
 * pre-tokenizer); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_encode(const trueno_tokenizer *t, trueno_token *ids, size_t cap,
                                       size_t *n, const char *text, size_t len, uint32_t flags,
                                       trueno_error *err);

/** Decodes a whole sequence: the inverse of encode. Control and unknown tokens give no text unless
 * `with_special`. The space that the vocabulary's rules put before the text, and after tokens that
 * were cut out of it, is dropped. Writes at most `cap` bytes (no NUL) and the number of all bytes
 * to `*len`. @return OK; ERR_ARGUMENT (an
 * id outside the vocabulary) */
TRUENO_API trueno_status trueno_decode(const trueno_tokenizer *t, char *text, size_t cap,
                                       size_t *len, const trueno_token *ids, size_t n,
                                       bool with_special, trueno_error *err);

/** The token's own text as in the file (escapes and all); data NULL for a bad id. Lives as long as
 * the tokenizer. */
TRUENO_API trueno_str trueno_token_text(const trueno_tokenizer *t, trueno_token id);

/** What a token is, by its number in GGUF files. */
typedef enum trueno_token_kind {
    TRUENO_TOKEN_NORMAL = 1,
    TRUENO_TOKEN_UNKNOWN = 2,
    TRUENO_TOKEN_CONTROL = 3,
    TRUENO_TOKEN_USER_DEFINED = 4,
    TRUENO_TOKEN_UNUSED = 5,
    TRUENO_TOKEN_BYTE = 6
} trueno_token_kind;

/** Kind of a token; TRUENO_TOKEN_NORMAL for kinds that files invent, 0 for a bad id. */
TRUENO_API trueno_token_kind trueno_token_get_kind(const trueno_tokenizer *t, trueno_token id);

/** Id by exact text, or TRUENO_TOKEN_NONE. */
TRUENO_API trueno_token trueno_token_find(const trueno_tokenizer *t, const char *text, size_t len);

/** Facts about a vocabulary. */
typedef struct trueno_tokenizer_info {
    size_t struct_size;
    const char *model; /**< "spm" or "bpe" */
    char pre[64];      /**< pre-tokenizer as named in the file; "" if absent */
    uint32_t n_vocab;  /**< number of tokens */
    trueno_token bos;  /**< begin of sequence; this and the next: TRUENO_TOKEN_NONE where absent */
    trueno_token eos;  /**< end of sequence */
    trueno_token eot;  /**< end of turn */
    trueno_token unk;  /**< unknown text */
    trueno_token pad;  /**< padding */
    bool add_bos;      /**< encoding with TRUENO_ENCODE_SPECIAL puts BOS first */
    bool add_eos;      /**< ... and EOS last */
    bool add_space_prefix; /**< encoding puts a space before the text */
} trueno_tokenizer_info;

#define TRUENO_TOKENIZER_INFO_INIT                                                                 \
    {                                                                                              \
        sizeof(trueno_tokenizer_info), NULL, {0}, 0, -1, -1, -1, -1, -1, false, false, false       \
    }

/** @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_tokenizer_get_info(const trueno_tokenizer *t,
                                                   trueno_tokenizer_info *out);

/** True if generation should end at this token: EOS, EOT, EOM, and tokens whose text is one of the
 * well-known ends of turn ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", ...). */
TRUENO_API bool trueno_token_is_end(const trueno_tokenizer *t, trueno_token id);

/* ------------------------------------------------------- streaming detokeniser */

/** Turns ids, one at a time, into text that is always complete UTF-8. */
typedef struct trueno_detokenizer trueno_detokenizer;

/** Options of trueno_detokenizer_new. */
typedef struct trueno_detokenizer_options {
    size_t struct_size;
    bool with_special;      /**< print control tokens */
    bool keep_space_prefix; /**< keep the space that the vocabulary puts before the first word; set
                               it when the ids continue a text */
    bool raw_bytes;         /**< pass invalid bytes through; false: they become U+FFFD */
} trueno_detokenizer_options;

#define TRUENO_DETOKENIZER_OPTIONS_INIT                                                            \
    {                                                                                              \
        sizeof(trueno_detokenizer_options), false, false, false                                    \
    }

/** `t` is borrowed and must outlive the object. @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_detokenizer_new(trueno_detokenizer **out, const trueno_tokenizer *t,
                                                const trueno_detokenizer_options *opt);
TRUENO_API void trueno_detokenizer_free(trueno_detokenizer *d);
/** Forgets everything, as if new. */
TRUENO_API void trueno_detokenizer_reset(trueno_detokenizer *d);

/** Takes the next id; `*text` is what can be printed now (maybe empty), NUL-terminated, valid until
 * the next call on `d`. At most 3 bytes of an unfinished character are held back. Any split of the
 * ids gives the same text.
 *  @return OK; ERR_ARGUMENT (bad id: nothing changed); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_detokenizer_push(trueno_detokenizer *d, trueno_token id,
                                                 const char **text, size_t *len);

/** End of the sequence: what was held back comes out (as U+FFFD, or raw). */
TRUENO_API trueno_status trueno_detokenizer_flush(trueno_detokenizer *d, const char **text,
                                                  size_t *len);

/* ---------------------------------------------------------- chat templates */

/** One turn of a conversation. Strings are NUL-terminated and borrowed. */
typedef struct trueno_chat_message {
    const char *role;    /**< "system", "user" or "assistant" */
    const char *content; /**< its text */
} trueno_chat_message;

/** Names of the built-in templates by index ("chatml", "llama2", "llama3", "mistral-v1", ...); NULL
 * past the end. */
TRUENO_API const char *trueno_chat_template_name(size_t index);

/** Built-in template that matches a file's `tokenizer.chat_template` text (a Jinja program, which
 * is only searched for known marks and never run). Linear in `len`. @return OK; ERR_ARGUMENT;
 * ERR_NOT_FOUND (never a guess) */
TRUENO_API trueno_status trueno_chat_detect(const char **name, const char *jinja, size_t len);

/** The same for the template of an open file. @return OK; ERR_ARGUMENT; ERR_NOT_FOUND (no template,
 * or unknown); ERR_CORRUPT (the key is not a string) */
TRUENO_API trueno_status trueno_chat_detect_gguf(const char **name, const trueno_gguf *g,
                                                 trueno_error *err);

/** Formats a conversation with built-in template `name`. No BOS is written: encode the result with
 *  TRUENO_ENCODE_SPECIAL | TRUENO_ENCODE_PARSE. `add_prompt`: end with the opening of the
 * assistant's turn. Writes at most `cap` bytes with a NUL (as snprintf) and the full length to
 * `*len`. A message may contain text that looks like a turn mark; applications that fear that
 * encode the parts themselves. Default system messages, dates and tools that a file's own template
 * adds are left to the caller; docs/tokenizers.md lists them.
 *  @return OK; ERR_ARGUMENT (unknown role, NULL); ERR_NOT_FOUND (name); ERR_TOO_LARGE (above 16
 * MiB) */
TRUENO_API trueno_status trueno_chat_apply(char *text, size_t cap, size_t *len, const char *name,
                                           const trueno_chat_message *messages, size_t n_messages,
                                           bool add_prompt, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
