# Toolchain for 64-bit ARM: cmake -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake
#                                 [-DTRUENO_ARM64_ROOT=FOLDER]
# The folder holds what the compiler's own libraries lack, as arm64 packages put it below /. What is
# built runs under qemu, which reads the CPU from QEMU_CPU.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/usr/aarch64-linux-gnu)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TRUENO_ARM64_ROOT)
if(TRUENO_ARM64_ROOT)
  set(libs ${TRUENO_ARM64_ROOT}/usr/lib/aarch64-linux-gnu)
  set(ENV{PKG_CONFIG_SYSROOT_DIR} ${TRUENO_ARM64_ROOT})
  set(ENV{PKG_CONFIG_LIBDIR} ${libs}/pkgconfig)
  set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${libs})
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -E LD_LIBRARY_PATH=${libs})
endif()
