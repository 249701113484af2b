/* SPDX-License-Identifier: MIT */
/** @file trueno.h
 *  Umbrella header of libtrueno: includes every public header, adds nothing.
 */
#ifndef TRUENO_H
#define TRUENO_H

#include "trueno/base.h"
#include "trueno/features.h"
#include "trueno/gguf.h"
#include "trueno/kernels.h"
#include "trueno/model.h"
#include "trueno/quantize.h"
#include "trueno/sampler.h"
#include "trueno/tokenizer.h"
#include "trueno/tuner.h"

#endif
