# Every dependency of libtrueno, in one place.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8) # pre-tokenizer expressions
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)  # JSON of tuner stores and of reports
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)        # checksums of tuner stores
set(TR_LIBRARIES PkgConfig::PCRE2 PkgConfig::JANSSON PkgConfig::ZLIB Threads::Threads)
if(TRUENO_BUILD_TESTS)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()
