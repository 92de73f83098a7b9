# A line as it is tested, with what builds packages, and beside it Dovecot's packages: its own, newer ones with the same ABI,
# and ones with another.
ARG LINE=bookworm
FROM mail-crypt-test:$LINE
COPY packages.sh repack.sh /deb/
RUN /deb/packages.sh
