/* SPDX-License-Identifier: MIT */
/** @file tuner.h
 *  The tuner, in one header: what a run is like (features.h) and how fast it will be (predict.h).
 *  Growing: choice of kernels and learning while running follow.
 */
#ifndef TRUENO_TUNER_H
#define TRUENO_TUNER_H

#include "choice.h"
#include "features.h"
#include "predict.h"

#endif
