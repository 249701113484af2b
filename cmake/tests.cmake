# tests/LAYER/test_NAME.c is one cmocka program that links LAYER and the layers below it.
set(TR_BELOW_base base)
set(TR_BELOW_gguf base gguf quant)
set(TR_BELOW_quant base gguf quant)
set(TR_BELOW_simd base gguf quant simd)
set(TR_BELOW_text base gguf quant text)
set(TR_BELOW_tuner base gguf quant simd tuner)
set(TR_BELOW_model base gguf quant simd text tuner model)
set(TR_BELOW_check base gguf quant simd)
set(TR_BELOW_fuzz base gguf quant simd text tuner model)

function(tr_link_layers target layer)
  foreach(l ${TR_BELOW_${layer}})
    if(TARGET tr_${l})
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:tr_${l}>)
    endif()
  endforeach()
  # whatever a test does, the library writes nothing to the standard streams
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/tests/silence.c)
  target_link_options(${target} PRIVATE LINKER:--wrap=write)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/tests)
  target_link_libraries(${target} PRIVATE tr_flags ${TR_LIBRARIES} PkgConfig::CMOCKA
    ${CMAKE_DL_LIBS} m)
endfunction()

foreach(layer base gguf quant simd text tuner model)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/${layer}/test_*.c)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/${layer}/*.c)
  list(FILTER helpers EXCLUDE REGEX "/test_[^/]*\\.c$")
  foreach(file ${tests})
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} ${file} ${helpers})
    tr_link_layers(${name} ${layer})
    add_test(NAME ${layer}/${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    set_tests_properties(${layer}/${name} PROPERTIES LABELS ${layer} TIMEOUT 600)
  endforeach()
endforeach()

# tests/oracle/oracle_NAME.c: programs that print what the inside computes, for the suites that compare
# it with other implementations (tests/compare_NAME.py).
file(GLOB oracles CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/oracle/oracle_*.c)
foreach(file ${oracles})
  get_filename_component(name ${file} NAME_WE)
  add_executable(${name} ${file})
  tr_link_layers(${name} tuner)
endforeach()

# The kernel checker: every registry kernel against the reference (tests/check/).
file(GLOB check CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/check/*.c)
if(check)
  add_executable(trueno-check ${check})
  tr_link_layers(trueno-check check)
  add_test(NAME check/kernels COMMAND trueno-check)
  set_tests_properties(check/kernels PROPERTIES LABELS check TIMEOUT 900)
endif()

# Fuzz targets: tests/fuzz/fuzz_NAME.c. With libFuzzer when asked for, and always with a plain main that
# replays the corpus tests/fuzz/corpus/NAME.
file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(file ${fuzzers})
  get_filename_component(name ${file} NAME_WE)
  string(REPLACE fuzz_ "" corpus ${name})
  add_executable(replay_${corpus} ${file} ${CMAKE_CURRENT_SOURCE_DIR}/tests/fuzz/replay.c)
  tr_link_layers(replay_${corpus} fuzz)
  add_test(NAME fuzz/${corpus} COMMAND replay_${corpus}
    ${CMAKE_CURRENT_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
  set_tests_properties(fuzz/${corpus} PROPERTIES LABELS fuzz TIMEOUT 600)
  if(TRUENO_BUILD_FUZZERS)
    add_executable(${name} ${file})
    tr_link_layers(${name} fuzz)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endforeach()
