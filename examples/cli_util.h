/* SPDX-License-Identifier: MIT */
/* What the programs share: command line, messages, progress, Ctrl-C, clock, JSON. Nothing in here
 * is about inference; the programs show that themselves.
 *
 * Exit statuses: 0 success, 1 error, 2 wrong command line. */
#ifndef CLI_UTIL_H
#define CLI_UTIL_H

#include "trueno/base.h"

#include <jansson.h>

enum { CLI_OK = 0, CLI_ERROR = 1, CLI_USAGE = 2, CLI_GO_ON = -1 };

/* ------------------------------------------------------------------------ command line */

/* A list of words: an option that may be given several times. */
struct cli_list {
    const char *items[64];
    size_t n;
};

/* What an option's value is, and so what `target` points to. */
enum cli_kind {
    CLI_FLAG,  /* bool: no value, true if given */
    CLI_TEXT,  /* const char *: borrowed from argv */
    CLI_UINT,  /* uint32_t */
    CLI_INT,   /* int32_t */
    CLI_SEED,  /* uint64_t */
    CLI_FLOAT, /* float: finite */
    CLI_LIST   /* struct cli_list */
};

struct cli_option {
    const char *name;  /* "-m" or "--temp" */
    const char *alias; /* a second name, or NULL */
    enum cli_kind kind;
    void *target;
    const char *value; /* what the value is called in --help; NULL for a flag */
    const char *help;
};

struct cli_program {
    const char *usage;   /* arguments as shown after the program's name */
    const char *purpose; /* a paragraph for --help */
    const struct cli_option *options;
    size_t n_options;
};

/* Reads the command line into the targets, whose old values are the defaults. @return CLI_GO_ON, or
 * the status to exit with: CLI_OK after --help, CLI_USAGE after a message to stderr. */
int cli_parse(const struct cli_program *p, int argc, char **argv);

/* "cannot do this: see --help" on stderr. @return CLI_USAGE */
int cli_usage(const char *fmt, ...) TRUENO_PRINTF(1, 2);

/* "1,2,3" to numbers of at most `max`. @return how many, 0 if the text is anything else or there
 * are more than `cap`. `out` NULL: only counts. */
size_t cli_uint_list(const char *text, uint32_t max, uint32_t *out, size_t cap);

/* ---------------------------------------------------------------------------- messages */

/* "PROGRAM: ..." on stderr. @return CLI_ERROR */
int cli_error(const char *fmt, ...) TRUENO_PRINTF(1, 2);

/* The same for a failed call of the library: "PROGRAM: doing: message". `message` empty: the
 * status' name. @return CLI_ERROR */
int cli_failed(const char *doing, trueno_status status, const char *message);

/* --------------------------------------------------------------------------- run time */

/* A context with a progress bar (if stderr is a terminal), warnings on stderr, and cancellation by
 * Ctrl-C. NULL after a message. */
trueno_ctx *cli_ctx_new(void);

/* Progress bar on stderr if that is a terminal; the line is wiped when done == total. Fits
 * trueno_progress_fn. */
void cli_progress(void *user, const char *what, uint64_t done, uint64_t total);

/* True after Ctrl-C. Fits trueno_cancel_fn. */
bool cli_interrupted(void *user);

/* Seconds of a clock that never goes back. */
double cli_now(void);

/* A whole file ("-": stdin) with a NUL after it, to be freed. NULL after a message. */
char *cli_read_file(const char *path, size_t *len);

/* ------------------------------------------------------------------------------- JSON */

/* A JSON string; bytes that are not UTF-8 (in a file name, say) become '?'. */
json_t *cli_json_text(const char *text);

/* Writes `json` to `path` ("-": stdout) and drops it. NULL is "no memory". @return CLI_OK or
 * CLI_ERROR */
int cli_json_write(json_t *json, const char *path);

#endif
