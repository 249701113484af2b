# Headers, both libraries, trueno.pc and a CMake package.
include(CMakePackageConfigHelpers)
install(TARGETS trueno_static trueno_shared EXPORT trueno-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
