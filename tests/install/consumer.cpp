/* SPDX-License-Identifier: MIT */
/* The same from C++17: every INIT macro and type of the headers compiles, handles fit unique_ptr.
 */
#include <memory>
#include <string>
#include <trueno.h>

int main()
{
    trueno_ctx *raw = nullptr;
    trueno_ctx_options options = TRUENO_CTX_OPTIONS_INIT;
    trueno_error err{};
    if (trueno_ctx_new(&raw, &options, &err) != TRUENO_OK) return 1;
    const std::unique_ptr<trueno_ctx, void (*)(trueno_ctx *)> ctx(raw, trueno_ctx_free);

    trueno_gguf_options open_options = TRUENO_GGUF_OPTIONS_INIT;
    trueno_gguf *file = nullptr;
    if (trueno_gguf_open(ctx.get(), &file, "/nonexistent.gguf", &open_options, &err) !=
        TRUENO_ERR_IO)
        return 2;
    if (std::string(err.message).find("/nonexistent.gguf") == std::string::npos) return 3;
    trueno_tokenizer *tokenizer = nullptr;
    if (trueno_tokenizer_new(&tokenizer, nullptr, nullptr, &err) != TRUENO_ERR_ARGUMENT) return 4;
    return std::string(trueno_version()) == TRUENO_VERSION ? 0 : 5;
}
