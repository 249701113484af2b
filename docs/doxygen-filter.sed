# Documentation of what is the same everywhere and so is said only once in the headers (base.h,
# "Conventions of the whole API").
s|^    size_t struct_size;|& /**< size of the struct; the INIT macro sets it */|
s|^#define TRUENO_[A-Z_]*_INIT |/** Initialiser with struct_size and the defaults. */\n&|
s|^TRUENO_API void trueno_[a-z_]*_free(|/** Gives the object back; NULL is fine. */\n&|
