# Warnings, sanitizers, and the flags of each instruction set (by file suffix).
add_library(tr_flags INTERFACE)
target_include_directories(tr_flags INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> ${CMAKE_CURRENT_SOURCE_DIR}/src)
target_compile_definitions(tr_flags INTERFACE _GNU_SOURCE
  $<$<BOOL:${TRUENO_OPENBLAS}>:TR_OPENBLAS>)
# -ffp-contract=off: a compiler that fuses a*b+c behind our back would break bit-equality
target_compile_options(tr_flags INTERFACE -ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow
  -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla)
if(TRUENO_WERROR)
  target_compile_options(tr_flags INTERFACE -Werror)
endif()
if(TRUENO_BUILD_FUZZERS) # coverage of the library's own code, without libFuzzer's main
  target_compile_options(tr_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(TRUENO_SANITIZE)
  target_compile_options(tr_flags INTERFACE -fsanitize=${TRUENO_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(tr_flags INTERFACE -fsanitize=${TRUENO_SANITIZE})
endif()

# tr_isa_flags(<sources...>): NAME_avx512.c gets the flags of avx512, and so on; others stay baseline.
function(tr_isa_flags)
  foreach(file ${ARGN})
    if(file MATCHES "_avx2\\.c$")
      set(flags "-mavx2 -mfma -mf16c")
    elseif(file MATCHES "_avxvnni\\.c$")
      set(flags "-mavx2 -mfma -mf16c -mavxvnni")
    elseif(file MATCHES "_avx512\\.c$")
      set(flags "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni")
    elseif(file MATCHES "_dotprod\\.c$")
      set(flags "-march=armv8.2-a+dotprod")
    elseif(file MATCHES "_i8mm\\.c$")
      set(flags "-march=armv8.2-a+dotprod+i8mm")
    else() # _neon.c: NEON is the baseline of its architecture
      continue()
    endif()
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND file MATCHES "_(dotprod|i8mm)\\.c$")
      # GCC orders the unrolled tiles before it gives out registers: a fifth more code, all of it spills.
      string(APPEND flags " -fno-schedule-insns")
    endif()
    if(TRUENO_SANITIZE MATCHES "undefined")
      # Checks of every vector load: AddressSanitizer sees the same, and a file takes 35 s with them.
      string(APPEND flags " -fno-sanitize=null,alignment,object-size,pointer-overflow")
    endif()
    set_property(SOURCE ${file} APPEND_STRING PROPERTY COMPILE_FLAGS " ${flags}")
  endforeach()
endfunction()
