// tests/support/headers.cpp: nothing but the precompiled headers of the tests.
