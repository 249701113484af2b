/* SPDX-License-Identifier: MIT */
/* Inside of a tuner. */
#ifndef TR_TUNER_IMPL_H
#define TR_TUNER_IMPL_H

#include "base/clock.h"
#include "tuner/dispatch.h"
#include "tuner/policy.h"
#include "tuner/store.h"

#include <pthread.h>
#include <stdatomic.h>

/* One context. Everything but the atomics is written before `key` is published, and then by who has
 * taken the slot. */
struct tr_slot {
    _Atomic uint64_t key; /* trueno_problem_context; 0: empty */
    trueno_problem problem;
    uint32_t n_arms;                           /* the default first: */
    const struct tr_kernel *arms[TR_MAX_ARMS]; /* of a product */
    uint32_t threads[TR_MAX_ARMS];             /* of a pass */
    _Atomic uint32_t hold;                     /* number of the pass that has it, and before */
    _Atomic uint32_t pick;
    _Atomic uint32_t source; /* trueno_choice_source of the pick */
    _Atomic uint32_t next;   /* what a caller of trueno_tuner_plan is given where it is learned */
    atomic_bool taken;
    bool on_bed;            /* what was measured comes from a calibration */
    uint8_t effort;         /* of it */
    bool waiting;           /* next was handed out by the policy and not yet measured */
    _Atomic uint32_t order; /* TR_ORDER_..., for who has taken the slot; 0: none */
    _Atomic uint32_t rival; /* of an order to pin: the arm that it was compared with, */
    _Atomic float gain;     /* and ln(t / t_rival) */
    trueno_tuner *t;
    struct tr_policy *_Atomic policy; /* NULL: nothing to choose */
};

/* What a change of the store wants of a slot. Sessions keep theirs as long as the shape of their
 * passes, so nobody may wait for one: the pick changes at once, and who has the slot learns of it
 * before the next step. */
enum { TR_ORDER_BEGIN = 1, TR_ORDER_PIN = 2 /* + arm */ };

/* Observations on their way: a ring that many threads write and one at a time reads (Vyukov's
 * bounded queue). */
enum { TR_RING = 4096 };
struct tr_observation {
    _Atomic uint64_t
        turn; /* position of the writer that may fill it, or that position + 1: filled */
    uint64_t ticket, cost;
};

struct trueno_tuner {
    trueno_ctx *ctx; /* one reference */
    trueno_tuner_mode mode;
    trueno_tuner_options options; /* as read; its pointers are not valid any more */
    struct tr_clock clock;
    uint64_t seed;
    char *store_path; /* NULL: no file */
    trueno_status store_status;
    trueno_store_report stored; /* of the store that it began with */
    uint32_t cpus;              /* that can compute at once */
    char machine_id[TR_STORE_NAME_BYTES];
    uint64_t kernels_version;
    char version[40];

    pthread_rwlock_t models; /* of the next two: predictions read, learning writes */
    trueno_regressor *regressor;
    trueno_classifier *classifier;
    trueno_learner *learner; /* goes on from the regressor; NULL: no run was learned yet */
    bool pretrained;         /* the regressor is the one of pretrained.h, or began as it */
    bool recalled;           /* the models are those of the store */
    double mape;             /* NaN: not measured */
    trueno_accuracy accuracy;

    atomic_flag busy; /* one of the calls that are made by one thread at a time runs */
    struct tr_store *store;
    pthread_mutex_t adding; /* of slots, which read the store; writing to it needs both locks */
    struct tr_slot *slots;  /* [TR_MAX_SLOTS], open addressing */
    uint32_t n_slots;
    struct tr_random random; /* under `adding` */

    uint64_t (*tamper)(const struct tr_kernel *k, uint64_t ns); /* tests change times by it */
    const trueno_machine_point *roof; /* tests give it; NULL: it is measured */

    uint8_t *samples; /* collected, as tuner/samples.h has them; NULL: nothing was */
    size_t samples_bytes;

    struct tr_observation *ring; /* [TR_RING] */
    _Atomic uint64_t ring_head, ring_tail;
    atomic_bool paused;
    atomic_bool patient; /* contexts that are new now hold all kernels that may compute them */

    struct {
        _Atomic uint64_t full, stored_used, stored_stale, observations, dropped, explored, pins,
            unpins, runs, kernel_runs, audits, audit_excess_ns, retunes, races, inconclusive, noisy,
            drafts_checked, drafts_accepted;
    } n;
};

/* Marks t as busy, or says that it is; every success is followed by tr_tuner_leave. */
trueno_status tr_tuner_enter(trueno_tuner *t, trueno_error *err);
void tr_tuner_leave(trueno_tuner *t);

/* Slots, without the store and the models. tr_slots_free frees what slots hold. */
void tr_slots_init(trueno_tuner *t);
void tr_slots_free(trueno_tuner *t);

/* Sets a slot's pick from the store; under t->adding. */
void tr_slot_recall(struct tr_slot *slot, bool first);

/* Fills in the arms of a slot that has a tuner and a problem, the default first. False: nothing
 * computes it. */
bool tr_slot_arms(struct tr_slot *slot);

/* Name of an arm; `name` is where that of a number of threads is written. */
const char *tr_slot_arm_name(const struct tr_slot *slot, uint32_t arm, char name[TR_THREADS_NAME]);

/* Gives a slot an order. */
void tr_slot_order(struct tr_slot *slot, uint32_t order);

/* Takes a slot to look into its policy or to change it; false: somebody has it. */
bool tr_slot_hold(struct tr_slot *slot);

/* This machine's row of the store, added if it is not there. */
trueno_status tr_tuner_machine(trueno_tuner *t, uint32_t *index, trueno_error *err);

/* What that row says of a number of threads; false: nothing. */
bool tr_tuner_point(const trueno_tuner *t, trueno_machine_point *out, uint32_t threads);

/* Puts a measurement into that row. */
trueno_status tr_tuner_put_point(trueno_tuner *t, const trueno_machine_point *p, trueno_error *err);

/* Writes what the models learned into the store; models that know nothing write nothing. @return
 * OK; ERR_NO_MEMORY; ERR_TOO_LARGE */
trueno_status tr_tuner_keep_models(trueno_tuner *t, trueno_error *err);
/* Takes the models of the store; false: there are none, none of this machine, or they cannot be
 * read, and those that are there stay. */
bool tr_tuner_recall_models(trueno_tuner *t);
/* After a merge: takes the store's models if they learned from as many runs as t's (*used), else
 * writes t's. @return as tr_tuner_keep_models */
trueno_status tr_tuner_join_models(trueno_tuner *t, bool *used, trueno_error *err);

trueno_status tr_classifier_clone(trueno_ctx *ctx, trueno_classifier **out,
                                  const trueno_classifier *c, trueno_error *err);

/* After the regressor has changed, under t->models. */
void tr_tuner_name_version(trueno_tuner *t);

/* Keeps a run (label Unknown) or a row of feedback (tps 0). False: no memory. */
bool tr_tuner_collect(trueno_tuner *t, const trueno_features *f, double tps, double predicted,
                      uint32_t label);
/* Writes what was collected into the store, and takes what is there. @return OK; ERR_NO_MEMORY;
 * ERR_TOO_LARGE */
trueno_status tr_tuner_keep_samples(trueno_tuner *t, trueno_error *err);
trueno_status tr_tuner_recall_samples(trueno_tuner *t, trueno_error *err);

/* Puts a regressor in the place of t's, whose corrections are gone with it; under t->models. The
 * accuracy gets today's date. */
void tr_tuner_replace_regressor(trueno_tuner *t, trueno_regressor *r, double mape,
                                const trueno_accuracy *accuracy);

/* FNV-1a of features and rates, as in trueno_accuracy. */
uint64_t tr_data_hash(const trueno_features *rows, const double *tps, size_t n);

/* Sets the accuracy's date to now. */
void tr_accuracy_date(trueno_accuracy *a);

/* What `s` holds for t, with what was seen when it was read. */
void tr_tuner_report(trueno_store_report *out, const trueno_tuner *t, const struct tr_store *s,
                     const struct tr_store_report *seen);

/* Writes what slots have found into the store. @return OK; ERR_NO_MEMORY; ERR_TOO_LARGE */
trueno_status tr_tuner_remember(trueno_tuner *t, trueno_error *err);

/* After the store changed: every slot's pick anew. */
void tr_slots_recall(trueno_tuner *t);

/* A race that was asked for, of a slot that is held, whatever the mode: the slot gets a policy if
 * it has none. effort: enum tr_effort. */
void tr_slot_begin_race(struct tr_slot *slot, uint8_t effort);

/* Changes a slot's pick, with the counters. */
void tr_slot_pin(struct tr_slot *slot, uint32_t arm, trueno_choice_source source);

#endif
