/* SPDX-License-Identifier: MIT */
/* What the tuner knows of a weight type. */
#ifndef TR_KINDS_H
#define TR_KINDS_H

#include "trueno/features.h"
#include "trueno/quantize.h"

struct tr_quant_traits {
    trueno_dtype dtype;
    unsigned slot;  /* of the vector, 20..25; 0: none, the next three numbers tell which it is */
    unsigned group; /* weights that share a scale */
    double bits;    /* a weight's, with scales */
    unsigned scheme;
};

/* Of a quant, of Q4_K for TRUENO_QUANT_UNSET; NULL outside the enum. */
const struct tr_quant_traits *tr_quant_traits_of(trueno_quant quant);

#endif
