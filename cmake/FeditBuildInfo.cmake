# Records the version and the commit that a build was made from, for build_info.h and run.h5.
find_package(Git QUIET)
set(FEDIT_GIT_COMMIT "unknown")
set(FEDIT_GIT_DIRTY "false")
if(GIT_FOUND AND EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/.git")
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse HEAD
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE FEDIT_GIT_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET RESULT_VARIABLE git_failed)
  if(git_failed)
    set(FEDIT_GIT_COMMIT "unknown")
  endif()
  execute_process(COMMAND ${GIT_EXECUTABLE} diff --quiet HEAD
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    ERROR_QUIET RESULT_VARIABLE git_differs)
  if(git_differs)
    set(FEDIT_GIT_DIRTY "true")
  endif()
  # The next build after a commit or a pull looks again.
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --absolute-git-dir
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE git_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(EXISTS "${git_folder}/logs/HEAD")
    set_property(DIRECTORY "${PROJECT_SOURCE_DIR}"
      APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${git_folder}/logs/HEAD")
  endif()
endif()
