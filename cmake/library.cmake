# One object library per layer; libtrueno.a and libtrueno.so are made of the same objects.
# A test links only the layers it is about, so an arrow that points up fails to link.
set(TR_LAYERS base gguf quant simd text tuner model)
set(TR_OBJECTS "")
foreach(layer ${TR_LAYERS})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/${layer}/*.c)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(FILTER sources EXCLUDE REGEX "_avx[a-z0-9]*\\.c$")
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    list(FILTER sources EXCLUDE REGEX "_(neon|dotprod|i8mm)\\.c$")
  endif()
  if(NOT TRUENO_OPENBLAS)
    list(FILTER sources EXCLUDE REGEX "_openblas\\.c$")
  endif()
  if(NOT sources)
    continue()
  endif()
  tr_isa_flags(${sources})
  add_library(tr_${layer} OBJECT ${sources})
  target_link_libraries(tr_${layer} PRIVATE tr_flags ${TR_LIBRARIES})
  list(APPEND TR_OBJECTS $<TARGET_OBJECTS:tr_${layer}>)
endforeach()

# What a measurement of a kernel is worth depends on sources, compiler and flags: a hash of them.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/simd/*.[ch]
     ${CMAKE_CURRENT_SOURCE_DIR}/cmake/compiler.cmake)
set(TR_KERNELS_VERSION "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION} ${CMAKE_BUILD_TYPE}")
string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
string(APPEND TR_KERNELS_VERSION " ${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${type}} ${TRUENO_SANITIZE}")
foreach(file ${kernel_sources})
  file(SHA256 ${file} hash)
  string(APPEND TR_KERNELS_VERSION " ${hash}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
endforeach()
string(SHA256 TR_KERNELS_VERSION "${TR_KERNELS_VERSION}")
string(SUBSTRING ${TR_KERNELS_VERSION} 0 16 TR_KERNELS_VERSION)
set_source_files_properties(src/simd/registry.c PROPERTIES COMPILE_DEFINITIONS
  "TR_KERNELS_VERSION=UINT64_C(0x${TR_KERNELS_VERSION})")

# The pretrained regressor becomes part of pretrained.c; a new one must compile it again.
set(pretrained ${CMAKE_CURRENT_SOURCE_DIR}/src/tuner/pretrained.bin)
set_source_files_properties(src/tuner/pretrained.c PROPERTIES OBJECT_DEPENDS ${pretrained}
  COMPILE_DEFINITIONS "TR_PRETRAINED_FILE=\"${pretrained}\"")

add_library(trueno_static STATIC ${TR_OBJECTS})
add_library(trueno_shared SHARED ${TR_OBJECTS})
foreach(kind static shared)
  set_target_properties(trueno_${kind} PROPERTIES OUTPUT_NAME trueno EXPORT_NAME ${kind}
    LINKER_LANGUAGE C)
  target_include_directories(trueno_${kind} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(trueno_${kind} PRIVATE ${TR_LIBRARIES} ${CMAKE_DL_LIBS} m)
  if(TRUENO_SANITIZE)
    target_link_options(trueno_${kind} PUBLIC -fsanitize=${TRUENO_SANITIZE})
  endif()
  add_library(trueno::${kind} ALIAS trueno_${kind})
endforeach()
set(TR_VERSION_SCRIPT ${CMAKE_CURRENT_SOURCE_DIR}/src/trueno.map)
set_target_properties(trueno_shared PROPERTIES VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${TR_VERSION_SCRIPT})
target_link_options(trueno_shared PRIVATE LINKER:--version-script=${TR_VERSION_SCRIPT})
if(NOT TRUENO_SANITIZE)
  target_link_options(trueno_shared PRIVATE LINKER:--no-undefined)
endif()
