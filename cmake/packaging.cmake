# Install rules and the CMake package: find_package(ai_vmm) gives ai_vmm::ai_vmm and, for backends, ai_vmm::backend (headers only).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(ai_vmm_backend_interface INTERFACE)
target_include_directories(ai_vmm_backend_interface INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_features(ai_vmm_backend_interface INTERFACE cxx_std_20)
set_target_properties(ai_vmm_backend_interface PROPERTIES EXPORT_NAME backend)
target_compile_features(ai_vmm_headers INTERFACE cxx_std_20)

# An installation has the engines' libraries with it, so that it doesn't need the environment that it was built with. Without them they are used where
# they were at build time.
option(AI_VMM_INSTALL_ENGINES "Install OpenVINO's and ONNX Runtime's libraries with the package" ON)
set(openvino_libs ${AI_VMM_SITE_PACKAGES}/openvino/libs)
set(installed_engines ${CMAKE_INSTALL_LIBDIR}/ai_vmm/engines)
if(AI_VMM_INSTALL_ENGINES)
  install(DIRECTORY ${openvino_libs}/ DESTINATION ${installed_engines} FILES_MATCHING PATTERN "*.so*" PATTERN "cache.json")
  install(PROGRAMS ${AI_VMM_ONNXRUNTIME_LIBRARY} DESTINATION ${installed_engines})
  set(engines_of_library "$ORIGIN/ai_vmm/engines")
  set(engines_of_backend "$ORIGIN/../engines")
else()
  set(engines_of_library ${openvino_libs})
  set(engines_of_backend ${openvino_libs})
endif()
set_target_properties(ai_vmm PROPERTIES INSTALL_RPATH "$ORIGIN;${engines_of_library}")
install(TARGETS ai_vmm ai_vmm_headers ai_vmm_backend_interface EXPORT ai_vmm_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/ai_vmm DESTINATION include FILES_MATCHING PATTERN "*.hpp")
install(DIRECTORY python/ai_vmm_tools DESTINATION share/ai_vmm FILES_MATCHING PATTERN "*.py")
get_property(backends GLOBAL PROPERTY AI_VMM_BACKENDS)
list(REMOVE_ITEM backends ai_vmm_backend_null)  # for tests, by its path only
if(backends)
  set_target_properties(${backends} PROPERTIES INSTALL_RPATH "${engines_of_backend}")
  install(TARGETS ${backends} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/ai_vmm/backends)
endif()
install(EXPORT ai_vmm_targets NAMESPACE ai_vmm:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ai_vmm)
configure_package_config_file(cmake/ai_vmm-config.cmake.in ${CMAKE_BINARY_DIR}/ai_vmm-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ai_vmm)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ai_vmm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ai_vmm-config.cmake ${CMAKE_BINARY_DIR}/ai_vmm-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ai_vmm)
