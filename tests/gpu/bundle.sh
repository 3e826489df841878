#!/bin/bash
# Packs the built program, its tests, what they read and the libraries they need into one archive,
# for one machine with a GPU that has a driver and CUDA 13 but not our libraries (x86-64 Linux with
# an equal or newer glibc).
#   tests/gpu/bundle.sh [--build FOLDER] [--output FOLDER] [--archive FILE.tar.xz] [--shared FOLDER]
# --build    what to pack (default: build/cuda, else build/release)
# --output   folder to make (default: build/bundle); it may be moved anywhere afterwards
# --archive  (default: OUTPUT.tar.xz); refused if it is 60 MB or more
# --shared   fixtures and the real model (default: ../shared); without them their tests are skipped
# There: tar xf bundle.tar.xz && bundle/run.sh --output results
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
limit_bytes=60000000

fail() {
  printf 'bundle.sh: %s\n' "$@" >&2
  exit 1
}

build='' output=$root/build/bundle archive='' shared=$root/../shared
while [ $# -gt 0 ]; do
  case $1 in
    --build | --output | --archive | --shared)
      [ $# -ge 2 ] || fail "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    *)
      sed -n '2,11s/^# \?//p' "${BASH_SOURCE[0]}"
      exit 2
      ;;
  esac
done
if [ -z "$build" ]; then
  build=$root/build/release
  [ -x "$root/build/cuda/src/app/fedit" ] && build=$root/build/cuda
fi
archive=${archive:-$output.tar.xz}
[ -x "$build/src/app/fedit" ] || fail "no program in $build; build it first"
[ ! -e "$output" ] || fail "$output exists; remove it or give another --output"
case $(ompi_info --version 2> /dev/null | head -n 1) in
  *' v4.'*) ;;
  *) fail "the layout of Open MPI 4 is packed here, and ompi_info tells of another or none" ;;
esac

mkdir -p "$output"/{bin,libexec,lib/openmpi,lib/pmix,lib/fallback,share,etc}
bundle=$(cd "$output" && pwd)
[[ $bundle != *[[:space:]]* ]] || fail "no blanks in $bundle, please; the bundle may be moved later"

# ---- what the target has itself
libc_family='^(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libutil|libnsl|libanl'
libc_family+='|libnss_[a-z]+|libmvec)\.so'
cuda_family='^(libcuda|libcudart|libcublas(Lt)?|libnccl|libcudnn[a-z_]*|libnvrtc[a-z.-]*'
cuda_family+='|libnvJitLink|libnvidia[a-z-]*|libcu(fft|rand|solver|sparse|pti))\.so'
# Packed, but used only where the target has none or an older one: it may have loaded its own.
compiler_family='^(libstdc\+\+|libgcc_s)\.so'

# ---- programs
python3 -B "$root/tests/gpu/test_list.py" "$build" > "$bundle/etc/tests.json" ||
  fail "build all targets first"
mapfile -t tests < <(sed -n 's/.*"program": "\(.*\)".*/\1/p' "$bundle/etc/tests.json" | sort -u)
cp -L "$build/src/app/fedit" "${tests[@]}" "$bundle/libexec/"

# ---- run time of Open MPI and PMIx; the parts for other networks, launchers and file systems stay
where() { ompi_info --parsable --path all | sed -n "s/^path:$1://p" | sort -u; }
unused='_(ofi|openib|psm2?|ucx|flux|jsm|slurm|rsh|monitoring|gridengine|simulator|netlink'
unused+='|han|adapt|bzip|pessimist)\.so$'
unused+='|/mca_(io|fs|fbtl|fcoll|sharedfp|atomic|memheap|scoll|spml|sshmem|btl_sm)[_.]'
find "$(where pkglibdir)" -name 'mca_*.so' | grep -vE "$unused" |
  xargs -d '\n' cp -Lt "$bundle/lib/openmpi"
mkdir -p "$bundle"/share/{openmpi,pmix}
cp -L "$(where pkgdatadir)"/help-*.txt "$bundle/share/openmpi"
pmix=$(ldd "$bundle/lib/openmpi/mca_pmix_ext3x.so" | awk '$1 ~ /^libpmix/ {print $3}')
pmix=$(dirname "$(readlink -f "$pmix")")
cp -L "$pmix"/pmix/*.so "$bundle/lib/pmix"
cp -L "$pmix"/../share/pmix/help-*.txt "$bundle/share/pmix"
cp -L "$(command -v orterun)" "$(command -v orted)" "$bundle/libexec"
cat > "$bundle/etc/openmpi-mca-params.conf" << 'END'
plm = isolated
btl = self,vader,tcp
btl_base_warn_component_unused = 0
btl_vader_single_copy_mechanism = none
rmaps_base_oversubscribe = 1
hwloc_base_binding_policy = none
END

# ---- libraries
binaries() { find "$bundle" -type f \( -name '*.so*' -o -path '*/libexec/*' \); }
needed_by() { readelf -d "$@" 2> /dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u; }
imports() { nm -D --undefined-only "$@" 2> /dev/null | awk '{print $2}' | sort -u; }

# Debian's HDF5 can read from S3, which drags in curl, crypto and some 30 libraries more. Stand-ins
# with the same versioned names do, unless a program of ours calls them itself.
stand_ins=()
for pair in 'libcurl.so.4 @CURL_OPENSSL_4' 'libcrypto.so.3 @OPENSSL_3'; do
  read -r library version <<< "$pair"
  # Not grep -q: it would leave at the first match, and the pipe would count as failed.
  imports "$bundle"/libexec/* | grep -F "$version" > /dev/null || stand_ins+=("$library")
done

is_packed() {
  local name=$1
  [[ $name =~ $libc_family || $name =~ $cuda_family || " ${stand_ins[*]} " == *" $name "* ||
    -e $bundle/lib/$name || -e $bundle/lib/fallback/$name ]]
}

# Level by level, so that nothing comes along only because a stand-in's original wants it.
pack_libraries() {
  local level name path folder next found
  mapfile -t level < <(binaries)
  while [ ${#level[@]} -gt 0 ]; do
    next=()
    found=$(LD_LIBRARY_PATH=$pmix ldd "${level[@]}" 2> /dev/null | sort -u)
    for name in $(needed_by "${level[@]}"); do
      is_packed "$name" && continue
      path=$(awk -v name="$name" '$1 == name && $3 ~ /^\// {path = $3} END {print path}' \
        <<< "$found")
      [ -n "$path" ] || fail "$name is needed, but not on this machine"
      folder=$bundle/lib
      [[ $name =~ $compiler_family ]] && folder=$bundle/lib/fallback
      cp -L "$path" "$folder/$name"
      next+=("$folder/$name")
    done
    level=("${next[@]}")
  done
}

# A library whose functions, named and versioned like those that packed files import, say that they
# are not here.
make_stand_in() {
  local library=$1 version=$2 work
  work=$(mktemp -d)
  mapfile -t files < <(binaries)
  imports "${files[@]}" | grep "@$version" | tr '@' ' ' | awk '{print $1, $NF}' > "$work/names"
  awk 'BEGIN {print "#include <stdio.h>\n#include <stdlib.h>"}
    {printf "void %s(void) { fputs(\"%s is not part of this bundle\\n\", stderr); abort(); }\n",
      $1, $1}' "$work/names" > "$work/stand_in.c"
  awk '{names[$2] = names[$2] " " $1 ";"}
    END {for (v in names) print v " { global:" names[v] " };"}' "$work/names" > "$work/versions.map"
  cc -w -fno-builtin -shared -fPIC -O1 -Wl,-soname,"$library" \
    -Wl,--version-script="$work/versions.map" "$work/stand_in.c" -o "$bundle/lib/$library"
  rm -r "$work"
}

pack_libraries
for library in "${stand_ins[@]}"; do
  case $library in
    libcurl*) make_stand_in "$library" CURL_OPENSSL ;;
    *) make_stand_in "$library" OPENSSL_3 ;;
  esac
done
mapfile -t packed < <(binaries)
chmod 755 "${packed[@]}"
strip --strip-unneeded "${packed[@]}"
objdump -T "${packed[@]}" 2> /dev/null | grep -v ' g ' |
  grep -oE '(GLIBCXX|CXXABI)_[0-9.]+' | sort -uV | tr '\n' ' ' > "$bundle/etc/compiler_versions"

# ---- what tests and benchmarks read, laid out like the source tree and its neighbour
tree=$bundle/share/tree
mkdir -p "$tree/data" "$tree/tests" "$tree/bench"
cp -r "$root/data/tiny-llama" "$root/data/templates" "$root/data/test.jsonl" "$tree/data/"
cp -r "$root/bench/models" "$tree/bench/"
cp -r "$root/tests/gpu" "$tree/tests/"
if [ -d "$shared/fixtures" ]; then
  mkdir -p "$bundle"/share/shared/{fixtures,data/models}
  cp -r "$shared"/fixtures/{algorithms,federation,full,lora,models,story} \
    "$bundle/share/shared/fixtures/"
  cp -r "$shared/data/models/story-656k" "$bundle/share/shared/data/models/"
  cp -r "$shared/data/prompts" "$bundle/share/shared/data/"
  cp "$shared/data/dolly-15k/clients-10/global_test.json" "$bundle/share/shared/data/"
  find "$bundle/share/shared" -name '*.py' -delete
else
  echo "bundle.sh: no fixtures at $shared; tests that need them will be skipped" >&2
fi
chmod -R u+w "$bundle/share"
cp "$root/tests/gpu/run.sh" "$bundle/run.sh"

# ---- how programs are started: the environment is theirs alone; nothing of the target's sees it
cat > "$bundle/bin/start" << 'END'
#!/bin/sh
# Starts the program of the bundle that this file is called as.
bundle=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
name=$(basename "$0")
case $name in
  mpirun | mpiexec) name=orterun ;;
esac
if [ "${FEDIT_BUNDLE:-}" != "$bundle" ]; then
  export FEDIT_BUNDLE="$bundle" FEDIT_TEST_ROOT="$bundle/share/tree" \
    FEDIT_PROGRAM="$bundle/bin/fedit"
  export OPAL_PREFIX="$bundle" OPAL_BINDIR="$bundle/bin" OPAL_LIBDIR="$bundle/lib" \
    OPAL_PKGLIBDIR="$bundle/lib/openmpi" OPAL_DATADIR="$bundle/share" \
    OPAL_PKGDATADIR="$bundle/share/openmpi" OPAL_SYSCONFDIR="$bundle/etc" PMIX_PREFIX="$bundle" \
    PMIX_LIBDIR="$bundle/lib" PMIX_PKGLIBDIR="$bundle/lib/pmix" PMIX_DATADIR="$bundle/share" \
    PMIX_PKGDATADIR="$bundle/share/pmix" HWLOC_PLUGINS_PATH="$bundle/lib/none"
  unset OPAL_DESTDIR PMIX_DESTDIR OMPI_MCA_plm OMPI_MCA_ras OMPI_MCA_pml OMPI_MCA_btl OMPI_MCA_mtl
  [ "$(id -u)" = 0 ] && export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fallback=$bundle/lib/fallback
  for file in /usr/lib/x86_64-linux-gnu/libstdc++.so.6 /usr/lib64/libstdc++.so.6; do
    [ -e "$file" ] || continue
    fallback=
    for version in $(cat "$bundle/etc/compiler_versions"); do
      grep -aqF "$version" "$file" || fallback=$bundle/lib/fallback
    done
    break
  done
  cuda=
  for folder in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 \
    /usr/local/cuda/targets/x86_64-linux/lib $(python3 -c 'import glob, sys
print(*[f for p in sys.path for f in sorted(glob.glob(p + "/nvidia/*/lib"))])' 2> /dev/null); do
    [ -d "$folder" ] && cuda=$cuda:$folder
  done
  LD_LIBRARY_PATH=$bundle/lib${fallback:+:$fallback}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}$cuda
  export LD_LIBRARY_PATH
fi
exec "$bundle/libexec/$name" "$@"
END
chmod 755 "$bundle/bin/start"
for name in mpirun mpiexec orted fedit "${tests[@]##*/}"; do ln -s start "$bundle/bin/$name"; done

# ---- nothing may be left that neither the bundle nor the target has
for name in $(for file in "${packed[@]}"; do
  LD_LIBRARY_PATH=$bundle/lib:$bundle/lib/fallback ldd "$file" 2> /dev/null
done | awk -v bundle="$bundle/" '$2 == "=>" && index($3, bundle) != 1 {print $1}' | sort -u); do
  [[ $name =~ $libc_family || $name =~ $cuda_family || $name == linux-vdso* ]] ||
    fail "$name is neither packed nor expected there"
done

# The test programs hold much the same code: a window over all of them makes it cost once.
tar -C "$(dirname "$bundle")" -c "$(basename "$bundle")" |
  xz -T1 --lzma2=preset=1,dict=192MiB > "$archive"
size=$(stat -c %s "$archive")
glibc=$(objdump -T "${packed[@]}" 2> /dev/null | grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -n 1)
cuda=$(needed_by "${packed[@]}" | grep -E "$cuda_family" | tr '\n' ' ' || true)
echo "${#tests[@]} tests, unpacked $(du -sm --apparent-size "$bundle" | cut -f 1) MB," \
  "archive $((size / 1000000)) MB: $archive"
echo "needs there: glibc ${glibc#GLIBC_} or later; of CUDA: ${cuda:-nothing}"
[ "$size" -lt "$limit_bytes" ] || fail "the archive has $size bytes, the limit is $limit_bytes"
