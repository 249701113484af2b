/* SPDX-License-Identifier: MIT */
/* The options --tuner and --profile: a tuner beside a generating session, what it said before and
 * what came of it. Nothing in here changes the text that is generated. */
#ifndef TUNER_UTIL_H
#define TUNER_UTIL_H

#include "trueno.h"

#include <jansson.h>

#define TUNER_HELP   "choose kernels: off (the defaults), frozen (what is stored), learn"
#define PROFILE_HELP "print what the stages of the model took"

/* Zero: no tuner, and every call does nothing. */
struct tuner_run {
    const char *mode;    /* as given */
    trueno_tuner *tuner; /* NULL: none */
    trueno_features f;   /* of decoding the answer */
    bool predicted;      /* rec is of f */
    trueno_recommendation rec;
    double tps;               /* decoded tokens per second; 0: too few to tell */
    bool saved;               /* the store was written */
    trueno_tuner_stats stats; /* at the end */
};

/* What is known before the first token. */
struct tuner_plan {
    const trueno_gguf *file;
    uint32_t n_threads; /* 0: all CPUs */
    uint32_t n_ctx;     /* tokens that the session holds */
    uint32_t seq_len;   /* tokens attended to at the end, at most n_ctx */
    trueno_kv_type kv_type;
};

/* @return CLI_OK for NULL and for a mode; else CLI_USAGE after a message */
int tuner_check(const char *mode);

/* Makes the tuner of a mode (NULL: none) on the usual store, asks it, and prints what it says to
 * stderr. Measures the machine for 0.3 s if nobody did before. What goes wrong later than the
 * making is a note. @return CLI_OK; CLI_USAGE or CLI_ERROR after a message */
int tuner_begin(struct tuner_run *t, const char *mode, trueno_ctx *ctx, const struct tuner_plan *p);

/* Tells what came of it, n tokens decoded in `seconds`, and in mode learn remembers it. Contexts
 * that a session still learns from are not saved: free it before. */
void tuner_end(struct tuner_run *t, size_t n, double seconds);

/* The same for a report; NULL without a tuner. */
json_t *tuner_json(const struct tuner_run *t);

void tuner_free(struct tuner_run *t);

/* A table of the session's stages on stderr: calls, milliseconds, share of all. */
void profile_print(const trueno_session *s);

#endif
