/* SPDX-License-Identifier: MIT */
/* Angles of the rotary position embedding, in double. */
#include "model/rope.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* YaRN, section 3.2: pair i turns r times over the original context where i = pair_of(r). */
static double pair_of(const struct tr_hparams *hp, double turns, double base)
{
    return hp->n_rot * log(hp->rope_orig_ctx / (turns * 2 * PI)) / (2 * log(base));
}

/* How much of the unscaled angle pair i keeps: 1 for fast pairs, 0 for slow ones. */
static double yarn_mix(const struct tr_hparams *hp, double base, double i)
{
    double lo = fmax(0, floor(pair_of(hp, hp->yarn_beta_fast, base)));
    double hi = fmin(hp->n_rot - 1, ceil(pair_of(hp, hp->yarn_beta_slow, base)));
    double ramp = (i - lo) / fmax(0.001, hi - lo);
    return hp->yarn_ext * (1 - fmin(1, fmax(0, ramp)));
}

/* Divisors of the frequencies, or NULL: LongRoPE's for this context, or Llama 3's table. Phi-3
 * files use the former whenever they are there, others only when their scaling says so. */
static const float *factors(const trueno_model *m, uint32_t n_ctx)
{
    bool wanted = m->hp.rope_scaling == TR_ROPE_LONGROPE || m->hp.arch->id == TR_ARCH_PHI3;
    if (wanted && m->rope_long != NULL && m->rope_short != NULL)
        return n_ctx > m->hp.rope_orig_ctx ? m->rope_long : m->rope_short;
    return m->rope_freqs;
}

void tr_rope_init(double *freq, double *magnitude, const trueno_model *m, bool local,
                  uint32_t n_ctx)
{
    const struct tr_hparams *hp = &m->hp;
    bool two_bases = hp->arch->id == TR_ARCH_GEMMA3; /* whose local layers are not scaled either */
    bool plain = local && two_bases;
    double base = plain ? hp->rope_base_local : hp->rope_base;
    double factor = plain || hp->rope_scaling == TR_ROPE_NONE ? 1 : hp->rope_factor;
    bool yarn = !plain && hp->rope_scaling == TR_ROPE_YARN && hp->yarn_ext > 0;
    const float *ff = factors(m, n_ctx);

    if (hp->rope_scaling == TR_ROPE_LONGROPE) factor = 1; /* its factors are per pair */
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
        double f = pow(base, -2.0 * i / hp->n_rot);
        if (ff != NULL) f /= (double)ff[i];
        double mix = yarn ? yarn_mix(hp, base, i) : 0;
        freq[i] = f / factor * (1 - mix) + f * mix;
    }
    *magnitude = hp->rope_attn_factor;
    if (yarn) *magnitude *= hp->yarn_attn * (1 + 0.1 * log(factor));
}

void tr_rope_angles(float *cos_out, float *sin_out, const double *freq, double magnitude,
                    size_t n_pairs, uint32_t pos)
{
    for (size_t i = 0; i < n_pairs; i++) {
        double theta = pos * freq[i];
        cos_out[i] = (float)(cos(theta) * magnitude);
        sin_out[i] = (float)(sin(theta) * magnitude);
    }
}
