"""The upload script of Qure.ai's documentation, as printed there: only URL and TOKEN are filled in, from the environment.

The file names are those of the printed script too, so it runs in a folder that holds them. The last line is added: it shows
the answer.
"""

# ruff: noqa
# fmt: off
import os
URL, TOKEN = os.environ["URL"], os.environ["TOKEN"]

import requests
from requests_toolbelt.multipart.encoder import MultipartEncoder
file_paths = ['dicom-file1.dcm', 'dicom-file2.dcm']

m = MultipartEncoder({
    file_path: (file_path, open(file_path, 'rb'), 'application/dicom')
    for file_path in file_paths
})
content_type = 'multipart/related; type=application/dicom; boundary={}'\
.format(m.boundary_value)

# Make the HTTP POST request to the service
r = requests.post(

    url=URL, data=m,

    headers={'Content-Type': content_type,
             'Authorization': 'Token {}'.format(TOKEN)})

print(r.status_code, r.text)
