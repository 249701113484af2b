/* SPDX-License-Identifier: MIT */
/* The model's side of trueno_features_from_env (trueno/machine.h). */
#ifndef TR_ENV_H
#define TR_ENV_H

#include "trueno/machine.h"

/* Sets what a file tells: size, geometry, weight type, side fields. Numbers are not checked against
 * the ranges of the features. @return OK; ERR_NOT_FOUND; ERR_UNSUPPORTED; ERR_CORRUPT */
trueno_status tr_env_model(trueno_features *f, const trueno_gguf *g, trueno_error *err);

#endif
