# Headers, both libraries, trueno.pc and a CMake package: find_package(trueno) gives trueno::static,
# trueno::shared and trueno::trueno. Everything installed finds its neighbours relative to itself.
include(CMakePackageConfigHelpers)
add_library(trueno::trueno ALIAS trueno_shared) # as find_package does, for add_subdirectory

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
set(TR_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/trueno)
# Two export sets: who links the shared library does not need what the static one is linked with.
foreach(kind static shared)
  install(TARGETS trueno_${kind} EXPORT trueno-${kind}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT trueno-${kind} NAMESPACE trueno:: DESTINATION ${TR_PACKAGE_DIR})
endforeach()

configure_package_config_file(cmake/trueno-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/trueno-config.cmake INSTALL_DESTINATION ${TR_PACKAGE_DIR}
  NO_SET_AND_CHECK_MACRO)
# Below 1.0 a new minor version may change the ABI.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/trueno-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/trueno-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/trueno-config-version.cmake DESTINATION ${TR_PACKAGE_DIR})

# ${pcfiledir} keeps trueno.pc right when the tree is moved; an absolute libdir is as it is.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(TR_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(TR_PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
  set(TR_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" up ${up})
  set(TR_PC_PREFIX "\${pcfiledir}/${up}")
  set(TR_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(TR_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/trueno.pc.in ${CMAKE_CURRENT_BINARY_DIR}/trueno.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/trueno.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
