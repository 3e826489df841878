# fedit_add_library(NAME SOURCES ... [PUBLIC libs] [PRIVATE libs]): the library of one folder of src/.
# PUBLIC names the folders to the left that its headers use; PRIVATE names vendor libraries.
function(fedit_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(fedit_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(fedit_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  target_include_directories(fedit_${name}
    PUBLIC "${PROJECT_SOURCE_DIR}/include"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  fedit_compile_options(fedit_${name})
endfunction()

# Flags that every target of ours is built with. No contraction: the server step must have the same
# bits on every machine; kernels that want fused multiply-add say so themselves. -Wrestrict is off:
# GCC 12 sees overlaps in std::string's operator+ that are not there (GCC bug 105651).
function(fedit_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -Wnon-virtual-dtor -Woverloaded-virtual -ffp-contract=off
    $<$<BOOL:${FEDIT_WARNINGS_AS_ERRORS}>:-Werror>)
  if(FEDIT_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FEDIT_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${FEDIT_SANITIZE})
  endif()
endfunction()
