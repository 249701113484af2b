/* SPDX-License-Identifier: MIT */
/* Rotary position embedding: frequencies of a model, and the cosines and sines of positions.
 * Su et al. 2021 (RoPE); Peng et al. 2023 (YaRN); Ding et al. 2024 (LongRoPE). */
#ifndef TR_ROPE_H
#define TR_ROPE_H

#include "model/weights.h"

/* Angle per position of each rotated pair, and what cos and sin are multiplied by. `freq` is
 * [n_rot / 2]. `local`: the tables of sliding-window layers. `n_ctx`: positions of the session,
 * which choose between the long and the short factors. */
void tr_rope_init(double *freq, double *magnitude, const trueno_model *m, bool local,
                  uint32_t n_ctx);

/* cos and sin, [n_rot / 2] each, of position pos. */
void tr_rope_angles(float *cos_out, float *sin_out, const double *freq, double magnitude,
                    size_t n_pairs, uint32_t pos);

#endif
