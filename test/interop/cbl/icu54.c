// The eight functions of ICU that Couchbase Lite 3.0 for Linux was linked against, under the names of ICU 54, handed on to
// whatever ICU this machine has: no distribution ships version 54 any more, and these functions have kept their
// signatures since. Built three times by build.sh, once for each library name that the client asks for.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEWEST = 120, OLDEST = 55 };

// find returns the function of that name in the newest installed ICU, or ends the process with a message.
__attribute__((unused)) static void *find(const char *library, const char *function) {
  char name[64];
  for (int version = NEWEST; version >= OLDEST; version--) {
    snprintf(name, sizeof name, "%s.so.%d", library, version);
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) continue;
    snprintf(name, sizeof name, "%s_%d", function, version);
    void *address = dlsym(handle, name);
    if (address != NULL) return address;
  }
  fprintf(stderr, "icu54: no %s in any installed %s\n", function, library);
  abort();
}

// FORWARD defines NAME_54 with the given result, parameters and arguments. The first call looks the function up; two
// threads that do so at once find the same address.
#define FORWARD(library, name, result, parameters, arguments)                     \
  result name##_54 parameters {                                                   \
    static result(*target) parameters;                                            \
    result(*found) parameters = __atomic_load_n(&target, __ATOMIC_ACQUIRE);       \
    if (found == NULL) {                                                          \
      found = (result(*) parameters)find(library, #name);                         \
      __atomic_store_n(&target, found, __ATOMIC_RELEASE);                         \
    }                                                                             \
    return found arguments;                                                       \
  }

#ifdef SHIM_UC
FORWARD("libicuuc", ucasemap_open, void *, (const char *locale, uint32_t options, int *status), (locale, options, status))
FORWARD("libicuuc", ucasemap_close, void, (void *map), (map))
FORWARD("libicuuc", ucasemap_utf8ToLower, int32_t,
        (const void *map, char *to, int32_t room, const char *from, int32_t length, int *status),
        (map, to, room, from, length, status))
FORWARD("libicuuc", ucasemap_utf8ToUpper, int32_t,
        (const void *map, char *to, int32_t room, const char *from, int32_t length, int *status),
        (map, to, room, from, length, status))
#endif

#ifdef SHIM_I18N
FORWARD("libicui18n", ucol_open, void *, (const char *locale, int *status), (locale, status))
FORWARD("libicui18n", ucol_close, void, (void *collator), (collator))
FORWARD("libicui18n", ucol_setAttribute, void, (void *collator, int attribute, int value, int *status),
        (collator, attribute, value, status))
FORWARD("libicui18n", ucol_strcollUTF8, int,
        (const void *collator, const char *a, int32_t lengthA, const char *b, int32_t lengthB, int *status),
        (collator, a, lengthA, b, lengthB, status))
#endif
