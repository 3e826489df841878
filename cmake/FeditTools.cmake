# Targets `format` (rewrites the sources) and `lint` (clang-format check, clang-tidy, folder order).
find_program(CLANG_FORMAT_EXECUTABLE clang-format)
find_program(CLANG_TIDY_EXECUTABLE run-clang-tidy)
file(GLOB_RECURSE FEDIT_ALL_SOURCES CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/include/*.h" "${CMAKE_CURRENT_SOURCE_DIR}/src/*.h"
  "${CMAKE_CURRENT_SOURCE_DIR}/src/*.cpp" "${CMAKE_CURRENT_SOURCE_DIR}/src/*.cu"
  "${CMAKE_CURRENT_SOURCE_DIR}/src/*.cuh" "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.h"
  "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.cpp" "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.cu"
  "${CMAKE_CURRENT_SOURCE_DIR}/tests/*.cuh")

if(CLANG_FORMAT_EXECUTABLE)
  add_custom_target(format COMMAND ${CLANG_FORMAT_EXECUTABLE} -i ${FEDIT_ALL_SOURCES} VERBATIM)
  add_custom_target(lint
    COMMAND ${CLANG_FORMAT_EXECUTABLE} --dry-run --Werror ${FEDIT_ALL_SOURCES}
    COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/tests/architecture/check_includes.py"
            "${CMAKE_CURRENT_SOURCE_DIR}"
    COMMAND ${CLANG_TIDY_EXECUTABLE} -quiet -p "${CMAKE_CURRENT_BINARY_DIR}" "/src/"
    VERBATIM)
endif()
